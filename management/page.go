// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	_ "embed"
	"net/http"
)

//go:embed page/index.html
var pageHTML []byte

// page shows the broker to a browser. It is whole in itself: its script and style
// are inline, and all it loads are answers of this API.
func page(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "+
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = w.Write(pageHTML) // fails when the client has gone: there is nobody to tell
}
