// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
)

// endpoint answers a request with a value to be encoded as JSON, with nil for
// nothing to say (204), or with an error, a refusal if the client is to know
// more than that it failed.
type endpoint func(*http.Request) (any, error)

// created is the value of an endpoint that has made what did not exist: 201, with
// nothing to say.
type created struct{}

// refusal is an error that is itself the answer, encoded as JSON.
type refusal interface {
	error
	statusCode() int // of HTTP
}

// problem is an error that is told to the client, in the form of RabbitMQ 4.3.
type problem struct {
	status int
	Kind   string `json:"error"`
	Reason string `json:"reason"`
}

// Error implements error.
func (p *problem) Error() string { return p.Kind + ": " + p.Reason }

func (p *problem) statusCode() int { return p.status }

var (
	errNotFound = &problem{http.StatusNotFound, "Object Not Found", "Not Found"}
	errMethod   = &problem{http.StatusMethodNotAllowed, "Method Not Allowed", "Method Not Allowed"}
	errInternal = &problem{http.StatusInternalServerError, "internal_server_error", "Internal Server Error"}
)

// serve is the one way from endpoints to HTTP.
func (s *Server) serve(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		value, err := e(r)
		if err != nil {
			var told refusal
			if !errors.As(err, &told) {
				s.options.Logger.Error("management request failed", "method", r.Method, "path", r.URL.Path, "error", err)
				told = errInternal
			}
			status, value = told.statusCode(), told
		}
		switch value.(type) {
		case nil:
			w.WriteHeader(http.StatusNoContent)
			return
		case created:
			w.WriteHeader(http.StatusCreated)
			return
		}
		s.write(w, status, value)
	}
}

// write sends value as JSON. It is encoded whole before the first byte goes out,
// so that a failure is not a half answer.
func (s *Server) write(w http.ResponseWriter, status int, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // names such as "a -> b" stay readable
	if err := encoder.Encode(value); err != nil {
		s.options.Logger.Error("cannot encode an answer of management", "error", err)
		http.Error(w, `{"error":"internal_server_error","reason":"Internal Server Error"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // fails when the client has gone: there is nobody to tell
}
