// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"

	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
)

// The policies of a virtual host and their application to what exists. A change
// swaps the set under VHost.mu, and then goes over queues and exchanges without
// keeping that lock: traffic and declarations go on meanwhile. Whoever applies
// policies to an object reads the set under the object's own lock (for exchanges
// VHost.mu), so that the latest set wins whoever comes last.

// SetPolicy sets a policy, or replaces the one of that name, and applies it to the
// queues and exchanges that exist before it returns. w as in DeclareQueue. created
// is false if it replaced one. A *PolicyError says that the policy is not valid;
// then nothing has changed. Called without locks.
func (v *VHost) SetPolicy(kind PolicyKind, p Policy, w persistence.Waiter) (created, waiting bool, err error) {
	compiled, err := compile(kind, p)
	if err != nil {
		return false, false, err
	}
	v.mu.Lock()
	existed := v.changePoliciesLocked(kind, p.Name, compiled)
	waiting = v.commit(w, persistence.SetConfig(policyKeyIn(v.id, kind, p.Name), encodePolicy(&compiled.Policy)))
	v.mu.Unlock()
	v.applyPolicies()
	return !existed, waiting, nil
}

// ClearPolicy takes a policy away, and from the queues and exchanges it applied to,
// before it returns; existed is false if there is none of that name. w as in
// DeclareQueue. Called without locks.
func (v *VHost) ClearPolicy(kind PolicyKind, name string, w persistence.Waiter) (existed, waiting bool) {
	v.mu.Lock()
	existed = v.changePoliciesLocked(kind, name, nil)
	if existed {
		waiting = v.commit(w, persistence.DeleteConfig(policyKeyIn(v.id, kind, name)))
	}
	v.mu.Unlock()
	if existed {
		v.applyPolicies()
	}
	return existed, waiting
}

func (v *VHost) changePoliciesLocked(kind PolicyKind, name string, p *policy) (existed bool) {
	changed, existed := v.policies.Load().with(kind, name, p)
	v.policies.Store(changed)
	return existed
}

// Policies lists the policies of a kind in the order in which they win.
func (v *VHost) Policies(kind PolicyKind) []Policy {
	set := v.policies.Load()
	list := make([]Policy, len(set[kind]))
	for i, p := range set[kind] {
		list[i] = p.Policy
	}
	return list
}

// Policy finds a policy by name.
func (v *VHost) Policy(kind PolicyKind, name string) (Policy, bool) {
	for _, p := range v.policies.Load()[kind] {
		if p.Name == name {
			return p.Policy, true
		}
	}
	return Policy{}, false
}

// ExchangePolicies are the policies that apply to an exchange of that name.
func (v *VHost) ExchangePolicies(name string) AppliedPolicies {
	return v.policies.Load().match(toExchanges, name)
}

func (v *VHost) applyPolicies() {
	v.mu.Lock()
	queues := make([]*Queue, 0, len(v.queues))
	for _, q := range v.queues {
		queues = append(queues, q)
	}
	v.mu.Unlock()
	var filtering []*Queue
	for _, q := range queues {
		if q.applyPolicies(); q.window.Load() != nil || q.settings.Load().dedup != nil {
			filtering = append(filtering, q)
		}
	}
	if filtering != nil {
		v.reconfigureWindows(filtering)
	}
	v.applyToExchanges()
}

// target is the kind of object that the queue is to policies.
func (q *Queue) target() targets {
	if q.Quorum() {
		return toQuorum
	}
	return toClassic
}

// applyPolicies gives the queue the settings that its arguments and the virtual
// host's policies come to now. Names are matched without the queue's lock, and
// again if the policies have changed meanwhile.
func (q *Queue) applyPolicies() {
	for {
		set := q.vhost.policies.Load()
		applied := set.match(q.target(), q.name)
		q.mu.Lock()
		if q.vhost.policies.Load() == set {
			q.configureLocked(applied)
			q.unlock()
			return
		}
		q.mu.Unlock()
	}
}

func (q *Queue) configureLocked(applied AppliedPolicies) {
	old := q.settings.Load()
	if q.deleted || old.policies == applied {
		return
	}
	q.settingsChangedLocked(old, settingsOf(q.arguments, applied))
	q.dispatchLocked()
}

// exchangesAtOnce is how many exchanges are gone over under one lock.
const exchangesAtOnce = 256

func (v *VHost) applyToExchanges() {
	for chunk := range slices.Chunk(v.Exchanges(), exchangesAtOnce) {
		v.mu.Lock()
		var records []persistence.Record
		v.changeRoutes(func(r *exchanges.Router[*Queue]) {
			for _, x := range chunk {
				if now, _ := r.Exchange(x.Name); now == x { // else it has gone meanwhile
					records = append(records, v.configureExchange(r, x)...)
				}
			}
		})
		v.commit(nil, records...)
		v.mu.Unlock()
	}
}

// configureExchange gives an exchange what its arguments and policies set, and
// returns what the store has to know of that. Called with mu and routes held.
func (v *VHost) configureExchange(r *exchanges.Router[*Queue], x *Exchange) []persistence.Record {
	definition := v.ExchangePolicies(x.Name).Definition()
	value, _ := definition.Get("alternate-exchange")
	alternate, _ := value.(string)
	r.SetPolicyAlternate(x.Name, alternate)
	changed, records := v.configureExchangeWindow(x, dedupOf(x.Arguments, definition))
	if changed {
		r.Touch()
	}
	return records
}

// restorePolicy puts a policy found in the store in force; queues and exchanges are
// restored after it.
func (v *VHost) restorePolicy(kind PolicyKind, p Policy) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	compiled, err := compile(kind, p)
	if err != nil {
		return err
	}
	v.changePoliciesLocked(kind, p.Name, compiled)
	return nil
}
