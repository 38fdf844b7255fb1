// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
)

// The STATE file says, outside the database, how the last stop went and which
// commit was the last one then. A database that has lost its newest files or
// the end of its log opens without a complaint; with an older commit than the
// one recorded here it is found out.
//
//	lagomq state 1
//	stopped at commit 1234 with manifest 01234567
//	crc32c 89abcdef
//
// The database's manifest, which tells what tables it has, is named by a checksum
// of its content: where it is damaged Pebble takes it to end, and old logs
// that are still there to belong to the database. The second line is "running" from a start to the next orderly stop, with the file
// that says what was durable then, and "new" until there is a database.

const (
	stateFile     = "STATE"
	stateTempFile = "STATE.tmp"

	stateHead        = "lagomq state 1\n"
	stateNewLine     = "new\n"
	stateRunningLine = "running\n"
	stateNotedLine   = "running with DURABLE\n"
	stateStoppedLine = "stopped at commit %d with manifest %08x\n"
	stateSumLine     = "crc32c %08x\n"
)

// state is the content of the STATE file.
type state struct {
	kind     stateKind
	noted    bool   // of a running store: the DURABLE file must be there
	commit   uint64 // of a stopped store: its last commit
	manifest uint32 // and what manifestSum returns
}

type stateKind uint8

const (
	stateNew     stateKind = iota // nothing was ever stored, and there may be no database
	stateRunning                  // it runs, or its last stop was not orderly
	stateStopped                  // its last stop was orderly
)

func (st state) String() string {
	text := stateHead
	switch st.kind {
	case stateNew:
		text += stateNewLine
	case stateRunning:
		if st.noted {
			text += stateNotedLine
		} else {
			text += stateRunningLine // an older version's, or a repair's
		}
	case stateStopped:
		text += fmt.Sprintf(stateStoppedLine, st.commit, st.manifest)
	}
	return text + fmt.Sprintf(stateSumLine, crc32.Checksum([]byte(text), castagnoli))
}

// parseState is the inverse of String.
func parseState(text string) (st state, err error) {
	rest, ok := strings.CutPrefix(text, stateHead)
	if !ok {
		return st, errors.New("it does not begin as a state file of this version")
	}
	switch {
	case strings.HasPrefix(rest, stateNewLine):
	case strings.HasPrefix(rest, stateRunningLine):
		st.kind = stateRunning
	case strings.HasPrefix(rest, stateNotedLine):
		st.kind, st.noted = stateRunning, true
	default:
		st.kind = stateStopped
		if _, err := fmt.Sscanf(rest, stateStoppedLine, &st.commit, &st.manifest); err != nil {
			return st, errors.New("its second line is not known")
		}
	}
	if st.String() != text {
		return st, errors.New("its checksum does not match")
	}
	return st, nil
}

// readState reads the STATE file.
func readState(fs vfs.FS, dir string) (st state, err error) {
	text, err := readStart(fs, fs.PathJoin(dir, stateFile))
	if errors.Is(err, iofs.ErrNotExist) {
		return st, errors.New("it is missing")
	}
	if err != nil {
		return st, plain(err)
	}
	return parseState(text)
}

// manifestSum returns a checksum of the name and the content of the database's
// manifest, and of the names and sizes of its blob files, whose absence Pebble
// does not notice when it opens the database. Manifests of the past do not count:
// the end of one may be lost with a crash.
func manifestSum(fs vfs.FS, dir string) (uint32, error) {
	database := fs.PathJoin(dir, databaseDir)
	names, err := fs.List(database)
	if err != nil {
		return 0, fmt.Errorf("read manifest: %w", plain(err))
	}
	current, err := atomicfs.ReadMarker(fs, database, "manifest")
	if err != nil {
		return 0, fmt.Errorf("find manifest: %w", plain(err))
	}
	slices.Sort(names)
	sum := crc32.New(castagnoli)
	for _, name := range names {
		if strings.HasSuffix(name, ".blob") {
			info, err := fs.Stat(fs.PathJoin(database, name))
			if err != nil {
				return 0, fmt.Errorf("look at %s: %w", name, plain(err))
			}
			fmt.Fprintf(sum, "%s %d\n", name, info.Size())
		}
		if name != current {
			continue
		}
		f, err := fs.Open(fs.PathJoin(database, name))
		if err == nil {
			_, err = io.Copy(sum, io.MultiReader(strings.NewReader(name), f))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return 0, fmt.Errorf("read manifest: %w", plain(err))
		}
	}
	return sum.Sum32(), nil
}

// writeStopped says that the database, which is closed, is as an orderly stop
// leaves it behind.
func writeStopped(fs vfs.FS, dir string, commit uint64) error {
	// A file that was deleted must not come back with a crash.
	if err := syncDir(fs, fs.PathJoin(dir, databaseDir)); err != nil {
		return fmt.Errorf("sync database of %s: %w", dir, plain(err))
	}
	manifest, err := manifestSum(fs, dir)
	if err != nil {
		return err
	}
	return writeState(fs, dir, state{kind: stateStopped, commit: commit, manifest: manifest})
}

// writeState replaces the STATE file, durably and at once.
func writeState(fs vfs.FS, dir string, st state) error {
	if err := replaceFile(fs, dir, stateFile, stateTempFile, st.String()); err != nil {
		return fmt.Errorf("write state of data directory %s: %w", dir, plain(err))
	}
	return nil
}

// replaceFile writes a file under another name and renames it, so that after a
// crash there is the old content or the new.
func replaceFile(fs vfs.FS, dir, name, temp, content string) error {
	f, err := fs.Create(fs.PathJoin(dir, temp), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(fs.PathJoin(dir, temp), fs.PathJoin(dir, name))
	}
	if err == nil {
		err = syncDir(fs, dir)
	}
	return err
}
