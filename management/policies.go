// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
)

// policy is a policy as RabbitMQ 4.3 shows it.
type policy struct {
	VHost      string         `json:"vhost"`
	Name       string         `json:"name"`
	Pattern    string         `json:"pattern"`
	ApplyTo    string         `json:"apply-to"`
	Definition map[string]any `json:"definition"`
	Priority   int64          `json:"priority"`
}

func newPolicy(v *vhosts.VHost, p *vhosts.Policy) policy {
	return policy{
		VHost: v.Name(), Name: textJSON(p.Name), Pattern: textJSON(p.Pattern), ApplyTo: p.ApplyTo,
		Definition: tableJSON(p.Definition), Priority: p.Priority,
	}
}

func (s *Server) policies(kind vhosts.PolicyKind) endpoint {
	return func(r *http.Request) (any, error) {
		hosts, err := s.wantedHosts(r)
		if err != nil {
			return nil, err
		}
		list := []policy{}
		for _, v := range hosts {
			for _, p := range v.Policies(kind) {
				list = append(list, newPolicy(v, &p))
			}
		}
		return listing(r, list, func(p *policy) string { return p.Name })
	}
}

// policyAccess says whether the user may deal with single policies, as in RabbitMQ
// 4.3.
func policyAccess(r *http.Request, kind vhosts.PolicyKind) error {
	switch u := userOf(r); {
	case u.Has(tagAdministrator):
		return nil
	case kind == vhosts.OperatorPolicy:
		return errNoAdmin
	case u.Has(tagPolicymaker):
		return nil
	}
	return errNotAllowed
}

// policyHost is the virtual host of a single policy, for users who may deal with it.
func (s *Server) policyHost(r *http.Request, kind vhosts.PolicyKind) (*vhosts.VHost, error) {
	if err := policyAccess(r, kind); err != nil {
		return nil, err
	}
	return s.vhost(r)
}

func (s *Server) policy(kind vhosts.PolicyKind) endpoint {
	return func(r *http.Request) (any, error) {
		v, err := s.policyHost(r, kind)
		if err != nil {
			return nil, err
		}
		p, ok := v.Policy(kind, param(r, "policy"))
		if !ok {
			return nil, errNotFound
		}
		return single(r, newPolicy(v, &p))
	}
}

func (s *Server) setPolicy(kind vhosts.PolicyKind) endpoint {
	return func(r *http.Request) (any, error) {
		v, err := s.policyHost(r, kind)
		if err != nil {
			return nil, err
		}
		p, err := readPolicy(r)
		if err != nil {
			return nil, err
		}
		p.Name = param(r, "policy")
		w := make(durable, 1)
		isNew, waiting, err := v.SetPolicy(kind, p, w)
		var invalid *vhosts.PolicyError
		switch {
		case errors.As(err, &invalid):
			return nil, badRequest("%s", invalid)
		case err != nil:
			return nil, err
		}
		if err := w.wait(r, waiting); err != nil || !isNew {
			return nil, err
		}
		return created{}, nil
	}
}

func (s *Server) clearPolicy(kind vhosts.PolicyKind) endpoint {
	return func(r *http.Request) (any, error) {
		v, err := s.policyHost(r, kind)
		if err != nil {
			return nil, err
		}
		w := make(durable, 1)
		existed, waiting := v.ClearPolicy(kind, param(r, "policy"), w)
		if !existed {
			return nil, errNotFound
		}
		return nil, w.wait(r, waiting)
	}
}

// durable is a persistence.Waiter for one change, with room for its answer.
type durable chan error

// Durable implements persistence.Waiter.
func (d durable) Durable(err error) { d <- err }

// Flush implements persistence.Waiter.
func (d durable) Flush() {}

// wait waits until the change is durable, if there is anything to wait for, or the
// client has gone.
func (d durable) wait(r *http.Request, waiting bool) error {
	if !waiting {
		return nil
	}
	select {
	case err := <-d:
		return err
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

// maxPolicyBytes bounds what is read of a request that sets a policy.
const maxPolicyBytes = 1 << 20

// readPolicy reads the body of a request that sets a policy: an object with pattern,
// definition, and perhaps priority and apply-to.
func readPolicy(r *http.Request) (p vhosts.Policy, err error) {
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxPolicyBytes))
	if err != nil {
		return p, badRequest("the request's body cannot be read: %v", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // integers keep all their digits
	var body map[string]any
	if err := decoder.Decode(&body); err != nil || decoder.More() || body == nil {
		return p, badRequest("not_json")
	}
	var missing, invalid []string
	for _, key := range []string{"pattern", "definition"} {
		if _, given := body[key]; !given {
			missing = append(missing, "{key_missing,"+key+"}")
		}
	}
	if missing != nil {
		return p, badRequest("[%s]", strings.Join(missing, ",\n "))
	}
	var ok bool
	definition, isObject := body["definition"].(map[string]any)
	if p.Definition, ok = fromJSON(definition).(wire.Table); !ok || !isObject || p.Definition.Validate() != nil {
		invalid = append(invalid, "definition must be a dictionary: "+shown(body["definition"]))
	}
	if value, given := body["apply-to"]; given {
		if p.ApplyTo, ok = value.(string); !ok {
			invalid = append(invalid, "apply-to should be binary, actually was "+shown(value))
		}
	}
	if p.Pattern, ok = body["pattern"].(string); !ok {
		invalid = append(invalid, "pattern should be a binary but was "+shown(body["pattern"]))
	}
	if value, given := body["priority"]; given {
		number, _ := value.(json.Number)
		if p.Priority, err = strconv.ParseInt(number.String(), 10, 64); err != nil {
			invalid = append(invalid, "priority should be a number, actually was "+shown(value))
		}
	}
	if invalid != nil {
		return p, badRequest("%s", &vhosts.PolicyError{Problems: invalid})
	}
	return p, nil
}

// shown is a value that was not expected, for a text.
func shown(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return "?"
	}
	return string(text)
}

// fromJSON turns decoded JSON into what AMQP tables hold. Numbers that are not
// 64-bit integers become floating-point ones.
func fromJSON(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return math.Inf(1)
	case map[string]any:
		table := make(wire.Table, 0, len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			table = append(table, wire.Field{Name: name, Value: fromJSON(v[name])})
		}
		return table
	case []any:
		array := make(wire.Array, len(v))
		for i := range v {
			array[i] = fromJSON(v[i])
		}
		return array
	}
	return value
}
