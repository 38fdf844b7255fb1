// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/lagomq/lagomq/vhosts"
)

// routes says which endpoint answers what. The paths are those of RabbitMQ 4.3's
// management API, but for what is LagoMQ's own: those under /api/lagomq, and the
// check of the storage.
func (s *Server) routes() http.Handler {
	r := chi.NewRouter()
	r.Use(secure, escapedPath, middleware.GetHead)
	r.NotFound(s.serve(func(*http.Request) (any, error) { return nil, errNotFound }))
	r.MethodNotAllowed(s.serve(func(*http.Request) (any, error) { return nil, errMethod }))

	r.Get("/healthz", s.serve(s.healthy))
	r.Get("/readyz", s.serve(s.ready))

	r.Group(func(r chi.Router) {
		r.Use(s.authenticate)
		r.Get("/", pageFile("index.html"))
		r.Get("/page.css", pageFile("page.css"))
		r.Get("/page.js", pageFile("page.js"))

		get := func(path string, e endpoint) { r.Get("/api"+path, s.serve(e)) }
		get("/overview", s.overview)
		get("/whoami", s.whoami)

		get("/connections", s.connections)
		get("/connections/{connection}", s.connection)
		r.Delete("/api/connections/{connection}", s.serve(s.closeConnection))
		get("/connections/{connection}/channels", s.connectionChannels)
		get("/channels", s.channels)
		get("/channels/{channel}", s.channel)
		get("/consumers", s.consumers)
		get("/consumers/{vhost}", s.hostConsumers)

		get("/queues", s.queues)
		get("/queues/{vhost}", s.queues)
		get("/queues/{vhost}/{queue}", s.queue)
		get("/queues/{vhost}/{queue}/bindings", s.queueBindings)

		get("/exchanges", s.exchanges)
		get("/exchanges/{vhost}", s.exchanges)
		get("/exchanges/{vhost}/{exchange}", s.exchange)
		get("/exchanges/{vhost}/{exchange}/bindings/source", s.sourceBindings)
		get("/exchanges/{vhost}/{exchange}/bindings/destination", s.destinationBindings)

		get("/bindings", s.bindings)
		get("/bindings/{vhost}", s.bindings)

		for path, kind := range map[string]vhosts.PolicyKind{"/policies": vhosts.UserPolicy, "/operator-policies": vhosts.OperatorPolicy} {
			get(path, s.policies(kind))
			get(path+"/{vhost}", s.policies(kind))
			get(path+"/{vhost}/{policy}", s.policy(kind))
			r.Put("/api"+path+"/{vhost}/{policy}", s.serve(s.setPolicy(kind)))
			r.Delete("/api"+path+"/{vhost}/{policy}", s.serve(s.clearPolicy(kind)))
		}

		get("/vhosts", s.virtualHosts)
		get("/vhosts/{vhost}/connections", s.hostConnections)
		get("/vhosts/{vhost}/channels", s.hostChannels)
		get("/nodes", s.nodes)
		r.Post("/api/lagomq/backup", s.unhurried(s.backup))

		get("/lagomq/storage", s.storageStats)

		get("/health/checks/alarms", s.alarmsCheck("There are alarms in effect in the cluster"))
		get("/health/checks/local-alarms", s.alarmsCheck("There are alarms in effect on the node"))
		get("/health/checks/virtual-hosts", s.virtualHostsCheck)
		get("/health/checks/storage", s.storageCheck)
	})
	// Browsers send a user's credentials with what other sites make them request.
	return http.NewCrossOriginProtection().Handler(r)
}

// escapedPath makes chi match the path as it was sent, so that %2F, in RabbitMQ's
// API part of a name, separates nothing, and param decodes each segment exactly
// once. (URL.RawPath alone does not do: it is empty when it would equal the
// default encoding.) A slash at the end is no part of the path.
func escapedPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		if len(path) > 1 {
			path = strings.TrimSuffix(path, "/")
		}
		chi.RouteContext(r.Context()).RoutePath = path
		next.ServeHTTP(w, r)
	})
}

// param is the decoded path segment of that name.
func param(r *http.Request, name string) string {
	value, err := url.PathUnescape(chi.URLParam(r, name))
	if err != nil {
		return "" // net/http refuses such paths before
	}
	return value
}

// secure forbids browsers to keep answers, to load anything from elsewhere and to
// show the page inside another.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
