// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"time"

	"github.com/lagomq/lagomq/persistence"
)

// What is below /api/lagomq is LagoMQ's own.

var errNoAdministrator = &problem{http.StatusUnauthorized, "not_authorised", "Not administrator user"}

// backupRequest asks for a backup in a directory of the broker's machine.
type backupRequest struct {
	Dir string `json:"dir"` // absolute; empty or not there yet
}

// backupMade is a backup that is complete.
type backupMade struct {
	Dir     string  `json:"dir"`
	Bytes   int64   `json:"bytes"`
	Files   int     `json:"files"`
	Seconds float64 `json:"seconds"` // how long it took
}

// maxBackupRequest bounds the body of a backup's request, in bytes.
const maxBackupRequest = 64 << 10

// backup makes a backup of the store and answers when it is durable. It is for
// administrators, since it writes where it is told to.
func (s *Server) backup(r *http.Request) (any, error) {
	user := userOf(r)
	if !user.Has(tagAdministrator) {
		return nil, errNoAdministrator
	}
	var asked backupRequest
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBackupRequest)).Decode(&asked); err != nil {
		return nil, badRequest(`the body must be JSON like {"dir": "/var/backups/lagomq"}: %v`, err)
	}
	if !filepath.IsAbs(asked.Dir) {
		return nil, badRequest("dir must be an absolute path on the broker's machine, not %q", asked.Dir)
	}
	made := backupMade{Dir: filepath.Clean(asked.Dir)}
	started := time.Now()
	err := s.options.Store.Backup(r.Context(), made.Dir)
	if err == nil {
		made.Files, made.Bytes, err = s.options.Store.Usage(made.Dir)
	}
	switch {
	case errors.Is(err, persistence.ErrClosed), errors.Is(err, persistence.ErrFailed):
		return nil, &problem{http.StatusServiceUnavailable, "unavailable", err.Error()}
	case err != nil:
		// The directory is the administrator's choice, and so is what to do about it.
		return nil, badRequest("%v", err)
	}
	took := time.Since(started)
	made.Seconds = took.Seconds()
	s.options.Logger.Info("backup made", "dir", made.Dir, "files", made.Files, "bytes", made.Bytes, "took", took, "operator", user.Name)
	return made, nil
}

// unhurried serves an endpoint that may take longer than others are given.
func (s *Server) unhurried(e endpoint) http.HandlerFunc {
	serve := s.serve(e)
	return func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
			s.options.Logger.Warn("an answer of management may come too late", "path", r.URL.Path, "error", err)
		}
		serve(w, r)
	}
}
