// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"maps"

	"github.com/lagomq/lagomq/amqp/wire"
)

// Delete removes an exchange and its bindings in both directions. Deleting a
// missing exchange is no error: deleted is then nil. Removed are all bindings
// that went, autoDeleted the other exchanges that went because they lost their
// last binding as a source. Errors: 403 for the default exchange and for names
// that start with "amq.", 406 with ifUnused for an exchange that is the source
// of a binding.
func (r *Router[Q]) Delete(name string, ifUnused bool) (
	deleted *Exchange[Q], removed []Binding[Q], autoDeleted []*Exchange[Q], err *wire.Error,
) {
	if err := notDefault(name); err != nil {
		return nil, nil, nil, err
	}
	if systemName(name) {
		return nil, nil, nil, wire.Errorf(wire.AccessRefused,
			"deletion of system exchange '%s' in vhost '%s' not allowed", name, r.vhost)
	}
	x, ok := r.exchanges[name]
	if !ok {
		return nil, nil, nil, nil
	}
	if ifUnused && len(x.outgoing) > 0 {
		return nil, nil, nil, wire.Errorf(wire.PreconditionFailed, "exchange '%s' in vhost '%s' in use", name, r.vhost)
	}
	delete(r.exchanges, name)
	r.version++
	bindings := append(sorted(maps.Values(x.outgoing)), sorted(maps.Keys(x.incoming))...)
	removed, autoDeleted = r.drop(bindings)
	return x, removed, autoDeleted, nil
}

// drop unlinks bindings, and goes on with those to every auto-delete exchange
// that thereby loses its last binding as a source and is deleted. A loop, not a
// recursion, since clients decide how long such a chain is.
func (r *Router[Q]) drop(bindings []*binding[Q]) (removed []Binding[Q], autoDeleted []*Exchange[Q]) {
	for i := 0; i < len(bindings); i++ {
		b := bindings[i]
		if !b.unlink() { // listed twice: its two ends went together
			continue
		}
		removed = append(removed, b.public())
		x := b.source
		if !x.AutoDelete || len(x.outgoing) > 0 || r.exchanges[x.Name] != x {
			continue
		}
		delete(r.exchanges, x.Name)
		autoDeleted = append(autoDeleted, x)
		bindings = append(bindings, sorted(maps.Keys(x.incoming))...)
	}
	return removed, autoDeleted
}
