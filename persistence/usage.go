// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import "fmt"

// Usage counts the files below a directory on the store's file system, such as a
// backup, and their bytes.
func (s *Store) Usage(dir string) (files int, bytes int64, err error) {
	fs := s.opts.FS
	names, err := fs.List(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("measure %s: %w", dir, plain(err))
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			return 0, 0, fmt.Errorf("measure %s: %w", path, plain(err))
		}
		if !info.IsDir() {
			files, bytes = files+1, bytes+info.Size()
			continue
		}
		f, b, err := s.Usage(path)
		if err != nil {
			return 0, 0, err
		}
		files, bytes = files+f, bytes+b
	}
	return files, bytes, nil
}
