// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"embed"
	"net/http"
)

// pageFiles is the page for browsers with its style and script. It loads nothing
// else but answers of this API, so it works without any other network.
//
//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load its own files and this API, and nothing inline.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageFile serves one file of the page.
func pageFile(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", pagePolicy)
		http.ServeFileFS(w, r, pageFiles, "page/"+name)
	}
}
