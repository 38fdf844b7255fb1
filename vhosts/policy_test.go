// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
)

func (b *broker) setPolicy(t testing.TB, kind PolicyKind, p Policy) {
	t.Helper()
	w := newResult()
	_, waiting, err := b.SetPolicy(kind, p, w)
	if err != nil {
		t.Fatal(err)
	}
	if waiting {
		w.want(t)
	}
}

// TestPolicyValidation checks what definitions may say, and RabbitMQ 4.3's texts of
// what they may not.
func TestPolicyValidation(t *testing.T) {
	t.Parallel()
	const recognised = " are not recognised policy settings"
	for _, test := range []struct {
		kind    PolicyKind
		setting wire.Field
		want    string // "" if it is valid
	}{
		{UserPolicy, arg("message-ttl", int64(0)), ""},
		{UserPolicy, arg("message-ttl", int64(-1)), "-1 is not a valid message TTL"},
		{UserPolicy, arg("message-ttl", "5"), `<<"5">> is not a valid message TTL`},
		{UserPolicy, arg("message-ttl", 1.5), "1.5 is not a valid message TTL"},
		{UserPolicy, arg("expires", int64(0)), "0 is not a valid queue expiry"},
		{UserPolicy, arg("expires", true), "true is not a valid queue expiry"},
		{UserPolicy, arg("max-length", nil), "null is not a valid maximum length"},
		{UserPolicy, arg("max-length-bytes", wire.Array{int64(1), "a"}), `[1,<<"a">>] is not a valid maximum length in bytes`},
		{UserPolicy, arg("max-length-bytes", wire.Table{arg("é", int64(1))}), `#{<<"é"/utf8>> => 1} is not a valid maximum length in bytes`},
		{UserPolicy, arg("overflow", "reject-publish-dlx"), ""},
		{UserPolicy, arg("overflow", "drop"), `<<"drop">> is not a valid overflow value`},
		{UserPolicy, arg("dead-letter-exchange", ""), ""},
		{UserPolicy, arg("dead-letter-exchange", int64(1)), "1 is not a valid dead letter exchange name"},
		{UserPolicy, arg("dead-letter-routing-key", int64(1)), "1 is not a valid dead letter routing key"},
		{UserPolicy, arg("dead-letter-strategy", "often"), `<<"often">> is not a valid dead letter strategy`},
		{UserPolicy, arg("alternate-exchange", int64(1)), "1 is not a valid alternate exchange name"},
		{UserPolicy, arg("delivery-limit", int64(-1)), ""},
		{UserPolicy, arg("delivery-limit", "x"), `<<"x">> is not a valid delivery limit`},
		{UserPolicy, arg("max-age", "1D"), ""},
		{UserPolicy, arg("max-age", "1d"), `<<"1d">> is not a valid max age`},
		{UserPolicy, arg("stream-filter-size-bytes", int64(256)), "256 is not a valid filter size"},
		{UserPolicy, arg("queue-version", int64(3)), "3 is not a valid queue-version value"},
		{UserPolicy, arg("queue-leader-locator", "here"), `<<"here">> is not a valid queue leader locator value`},
		{UserPolicy, arg("queue-master-locator", "min-masters"), ""},
		{UserPolicy, arg("federation-upstream-set", "all"), `[{<<"federation-upstream-set">>,<<"all">>}]` + recognised},
		{UserPolicy, arg("shards-per-node", int64(2)), `[{<<"shards-per-node">>,2}]` + recognised},
		{UserPolicy, arg("ha-mode", "all"), `[{<<"ha-mode">>,<<"all">>}]` + recognised},
		{OperatorPolicy, arg("message-ttl", int64(5)), ""},
		{OperatorPolicy, arg("dead-letter-exchange", "x"), `[{<<"dead-letter-exchange">>,<<"x">>}]` + recognised},
	} {
		t.Run(fmt.Sprintf("%s %v", test.kind, test.setting), func(t *testing.T) {
			t.Parallel()
			if got := checkDefinition(test.kind, wire.Table{test.setting}); got != test.want {
				t.Errorf("the problem is %q, want %q", got, test.want)
			}
		})
	}
	if !slices.IsSortedFunc(policyKeys, func(a, b policyKey) int { return strings.Compare(a.name, b.name) }) {
		t.Error("the keys are not sorted")
	}
}

// TestInvalidPolicy checks that a policy that is not valid changes nothing, and that
// the text names every problem.
func TestInvalidPolicy(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	good := Policy{Name: "p", Pattern: "^q", ApplyTo: "queues", Definition: wire.Table{arg("max-length", int64(5))}}
	b.setPolicy(t, UserPolicy, good)
	q := b.declare(t, "q", "durable", 1)
	for _, test := range []struct {
		policy Policy
		want   string
	}{
		{Policy{Pattern: "a"}, "no policy provided\n"},
		{Policy{Pattern: "a", Definition: wire.Table{arg("x", int64(1)), arg("a", true)}},
			"[{<<\"a\">>,true},\n {<<\"x\">>,1}] are not recognised policy settings\n"},
		{Policy{Pattern: "a", ApplyTo: "topics", Definition: good.Definition},
			"apply-to 'topics' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'\n"},
		{Policy{Pattern: "(", Definition: good.Definition},
			"pattern should be regular expression but is invalid: missing closing ): `(`\n"},
		{Policy{Pattern: "^(?!amq)", Definition: good.Definition}, "pattern should be regular expression but is invalid: " +
			"invalid or unsupported Perl syntax: `(?!` (lookaround, backreferences, possessive quantifiers and atomic groups are not supported)\n"},
		{Policy{Pattern: `(a)\1`, Definition: good.Definition}, "pattern should be regular expression but is invalid: " +
			"invalid escape sequence: `\\1` (lookaround, backreferences, possessive quantifiers and atomic groups are not supported)\n"},
		{Policy{Pattern: "(", ApplyTo: "-"}, "no policy provided\n" +
			"apply-to '-' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'\n" +
			"pattern should be regular expression but is invalid: missing closing ): `(`\n"},
	} {
		test.policy.Name = "p"
		_, waiting, err := b.SetPolicy(UserPolicy, test.policy, newResult())
		var refused *PolicyError
		if waiting || !errors.As(err, &refused) || err.Error() != "Validation failed\n\n"+test.want {
			t.Errorf("%+v: waiting %t, error %q, want %q", test.policy, waiting, err, test.want)
		}
		if got, _ := b.Policy(UserPolicy, "p"); got.Pattern != "^q" || q.settings.Load().maxLength != 5 {
			t.Fatalf("%+v changed the policy to %+v", test.policy, got)
		}
	}
}

// TestPolicyApplies checks which policy wins.
func TestPolicyApplies(t *testing.T) {
	t.Parallel()
	length := func(n int64) wire.Table { return wire.Table{arg("max-length", n)} }
	var set *policies = new(policies)
	for _, p := range []Policy{
		{Name: "b", Pattern: "^same", Definition: length(1)},
		{Name: "a", Pattern: "^same", Definition: length(2)},
		{Name: "low", Pattern: ".", Priority: -5, Definition: length(3)},
		{Name: "high", Pattern: "^same.high$", Priority: 1, Definition: length(4)},
		{Name: "queues", Pattern: "^t", ApplyTo: "queues", Priority: 2, Definition: length(5)},
		{Name: "classic", Pattern: "^t", ApplyTo: "classic_queues", Priority: 3, Definition: length(6)},
		{Name: "quorum", Pattern: "^t", ApplyTo: "quorum_queues", Priority: 3, Definition: length(7)},
		{Name: "streams", Pattern: "^t", ApplyTo: "streams", Priority: 9, Definition: length(8)},
		{Name: "exchanges", Pattern: "^t", ApplyTo: "exchanges", Priority: 9, Definition: length(9)},
		{Name: "not for classic", Pattern: "^u", Priority: 3, Definition: wire.Table{arg("dead-letter-strategy", "at-least-once")}},
		{Name: "not for quorum", Pattern: "^u", Priority: 2, Definition: wire.Table{arg("queue-mode", "lazy")}},
	} {
		compiled, err := compile(UserPolicy, p)
		if err != nil {
			t.Fatal(err)
		}
		set, _ = set.with(UserPolicy, p.Name, compiled)
	}
	for _, test := range []struct {
		object     targets
		name, want string
	}{
		{toClassic, "same", "a"},
		{toClassic, "not same", "low"},
		{toClassic, "same high", "high"},
		{toClassic, "t", "classic"},
		{toQuorum, "t", "quorum"},
		{toExchanges, "t", "exchanges"},
		{toClassic, "u", "not for quorum"},
		{toQuorum, "u", "not for classic"},
		{toClassic, "", ""},
	} {
		if got := set.match(test.object, test.name).Policy(); got != test.want {
			t.Errorf("to %q applies %q, want %q", test.name, got, test.want)
		}
	}
}

// TestSettingsMerge compares the settings of random arguments and policies with
// RabbitMQ's rules, stated once for every setting.
func TestSettingsMerge(t *testing.T) {
	t.Parallel()
	number := rapid.Ptr(rapid.Int64Range(1, 4), true)
	limit := rapid.Ptr(rapid.Int64Range(-2, 3), true)
	word := func(words ...string) *rapid.Generator[*string] { return rapid.Ptr(rapid.SampledFrom(words), true) }
	rapid.Check(t, func(t *rapid.T) {
		quorum := rapid.Bool().Draw(t, "quorum")
		overflowWords := []string{"drop-head", "reject-publish", "reject-publish-dlx"}
		if quorum {
			overflowWords = overflowWords[:2]
		}
		var arguments, user, operator wire.Table
		if quorum {
			arguments = wire.Table{quorumType}
		}
		lesser := func(values ...*int64) (least *int64) {
			for _, v := range values {
				if v != nil && (least == nil || *v < *least) {
					least = v
				}
			}
			return least
		}
		// set draws a setting's three values and puts them where they belong.
		set := func(name string, g *rapid.Generator[*int64]) (a, u, o *int64) {
			a, u, o = g.Draw(t, "x-"+name), g.Draw(t, name), g.Draw(t, "operator "+name)
			arguments, user, operator = with(arguments, "x-"+name, a), with(user, name, u), with(operator, name, o)
			return a, u, o
		}
		first := func(values ...*string) string {
			for _, v := range values {
				if v != nil {
					return *v
				}
			}
			return ""
		}
		value := func(n *int64, missing int64) int64 {
			if n == nil {
				return missing
			}
			return *n
		}
		want := plainSettings()
		if quorum {
			want.deliveryLimit, want.consumerTimeout, want.priorities = 20, 1_800_000, 31
		}
		want.messageTTL = value(lesser(set("message-ttl", number)), unset)
		want.expires = value(lesser(set("expires", number)), 0)
		want.maxLength = value(lesser(set("max-length", number)), unset)
		want.maxBytes = value(lesser(set("max-length-bytes", number)), unset)
		want.retry.min = value(lesser(set("delayed-retry-min", number)), 0)
		want.retry.max = value(lesser(set("delayed-retry-max", number)), 0)

		// Negative delivery limits are none, and give way to any other.
		var given []int64
		for _, n := range asList(set("delivery-limit", limit)) {
			if n != nil {
				given = append(given, *n)
			}
		}
		if positive := slices.DeleteFunc(slices.Clone(given), func(n int64) bool { return n < 0 }); len(positive) > 0 {
			want.deliveryLimit = slices.Min(positive)
		} else if len(given) > 0 {
			want.deliveryLimit = unset
		}

		a, u, o := word(overflowWords...).Draw(t, "x-overflow"), word("drop-head", "reject-publish", "reject-publish-dlx").Draw(t, "overflow"),
			word("drop-head", "reject-publish").Draw(t, "operator overflow")
		arguments, user, operator = with(arguments, "x-overflow", a), with(user, "overflow", u), with(operator, "overflow", o)
		if quorum {
			if want.overflow = overflows[first(o, u, a)]; want.overflow == rejectPublishDLX {
				want.overflow = dropHead
			}
		} else {
			want.overflow = overflows[first(a, o, u)]
		}
		kinds := word("all", "failed", "returned", "disabled")
		a, u, o = kinds.Draw(t, "x-delayed-retry-type"), kinds.Draw(t, "delayed-retry-type"), kinds.Draw(t, "operator delayed-retry-type")
		arguments, user, operator = with(arguments, "x-delayed-retry-type", a), with(user, "delayed-retry-type", u), with(operator, "delayed-retry-type", o)
		if quorum {
			want.retry.kind = retryKinds[first(o, u, a)]
		} else {
			want.retry.kind = retryKinds[first(a, o, u)]
		}
		a, u = word("", "ax").Draw(t, "x-dead-letter-exchange"), word("", "px").Draw(t, "dead-letter-exchange")
		ak, uk := word("", "ak").Draw(t, "x-dead-letter-routing-key"), word("", "pk").Draw(t, "dead-letter-routing-key")
		if a == nil {
			ak = nil
		}
		arguments, user = with(with(arguments, "x-dead-letter-exchange", a), "x-dead-letter-routing-key", ak),
			with(with(user, "dead-letter-exchange", u), "dead-letter-routing-key", uk)
		var target *deadLetterTarget
		if a != nil || u != nil {
			target = &deadLetterTarget{exchange: first(a, u), key: first(ak, uk), rekeyed: ak != nil || uk != nil}
		}

		applied := AppliedPolicies{user: inForce(t, UserPolicy, user), operator: inForce(t, OperatorPolicy, operator)}
		got := *settingsOf(arguments, applied)
		if (got.deadLetters == nil) != (target == nil) || target != nil && *got.deadLetters != *target {
			t.Fatalf("dead letters go to %+v, want %+v", got.deadLetters, target)
		}
		want.deadLetters, want.policies = got.deadLetters, applied
		if got != want {
			t.Fatalf("settings are %+v, want %+v", got, want)
		}
	})
}

func with[T any](table wire.Table, name string, value *T) wire.Table {
	if value == nil {
		return table
	}
	return append(table, arg(name, *value))
}

func asList(a, b, c *int64) []*int64 { return []*int64{a, b, c} }

// inForce compiles a definition, nil if it is empty.
func inForce(t *rapid.T, kind PolicyKind, definition wire.Table) *policy {
	if len(definition) == 0 {
		return nil
	}
	p, err := compile(kind, Policy{Name: "p", Pattern: ".", Definition: definition})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPolicyLife sets and clears policies on queues and exchanges that exist and
// that come later, before and after restarts.
func TestPolicyLife(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	early := b.declare(t, "q.early", "durable", 1, arg("x-max-length", int32(100)))
	other := b.declare(t, "other", "durable", 1)
	b.declareExchange(t, exchanges.Declaration{Name: "x.early", Type: "fanout", Durable: true})
	b.declareExchange(t, exchanges.Declaration{Name: "x.own", Type: "fanout", Durable: true, Arguments: wire.Table{arg("alternate-exchange", "mine")}})

	b.setPolicy(t, UserPolicy, Policy{Name: "limits", Pattern: "^q", ApplyTo: "queues", Priority: 1,
		Definition: wire.Table{arg("max-length", int64(50)), arg("message-ttl", int64(1000))}})
	b.setPolicy(t, OperatorPolicy, Policy{Name: "guard", Pattern: "^q", ApplyTo: "queues",
		Definition: wire.Table{arg("max-length", int64(60)), arg("expires", int64(7_000_000))}})
	b.setPolicy(t, UserPolicy, Policy{Name: "spare", Pattern: "^x", Definition: wire.Table{arg("alternate-exchange", "amq.fanout")}})
	late := b.declare(t, "q.late", "durable", 1)
	b.declareExchange(t, exchanges.Declaration{Name: "x.late", Type: "fanout", Durable: true})

	check := func(what string, early, late, other *Queue) {
		t.Helper()
		for _, q := range []*Queue{early, late} {
			s := q.settings.Load()
			if s.maxLength != 50 || s.messageTTL != 1000 || s.expires != 7_000_000 {
				t.Errorf("%s: settings of %s are %+v", what, q.name, *s)
			}
			stats := q.Stats()
			definition := wire.Table{arg("expires", int64(7_000_000)), arg("max-length", int64(50)), arg("message-ttl", int64(1000))}
			if p := stats.Policies; p.Policy() != "limits" || p.OperatorPolicy() != "guard" || !p.Definition().Equal(definition) {
				t.Errorf("%s: %s has %q, %q, %v", what, q.name, p.Policy(), p.OperatorPolicy(), p.Definition())
			}
		}
		if s := other.settings.Load(); s.maxLength != unset || s.policies != (AppliedPolicies{}) {
			t.Errorf("%s: settings of %s are %+v", what, other.name, *s)
		}
		for name, want := range map[string]string{"x.early": "amq.fanout", "x.late": "amq.fanout", "x.own": "mine", "amq.topic": ""} {
			if x, _ := b.router.Exchange(name); x.Alternate != want {
				t.Errorf("%s: the alternate of %s is %q, want %q", what, name, x.Alternate, want)
			}
		}
	}
	check("set", early, late, other)
	for range 2 {
		b = b.restart(t, fs)
		check("recovered", b.queue(t, "q.early"), b.queue(t, "q.late"), b.queue(t, "other"))
	}

	if existed, _ := b.ClearPolicy(UserPolicy, "guard", nil); existed {
		t.Error("an operator policy was cleared as a policy")
	}
	for name, kind := range map[string]PolicyKind{"limits": UserPolicy, "guard": OperatorPolicy, "spare": UserPolicy} {
		w := newResult()
		existed, waiting := b.ClearPolicy(kind, name, w)
		if !existed || !waiting {
			t.Fatalf("%s %s: existed %t, waiting %t", kind, name, existed, waiting)
		}
		w.want(t)
	}
	for range 2 {
		if s := b.queue(t, "q.early").settings.Load(); s.maxLength != 100 || s.messageTTL != unset || s.expires != 0 || s.policies != (AppliedPolicies{}) {
			t.Errorf("without policies: settings are %+v", *s)
		}
		for _, name := range []string{"x.early", "x.late"} {
			if x, _ := b.router.Exchange(name); x.Alternate != "" {
				t.Errorf("without policies: the alternate of %s is %q", name, x.Alternate)
			}
		}
		if n := len(b.Policies(UserPolicy)) + len(b.Policies(OperatorPolicy)); n != 0 {
			t.Errorf("%d policies are left", n)
		}
		b = b.restart(t, fs)
	}
}

// BenchmarkSetPolicy changes a policy that applies to ten thousand queues.
func BenchmarkSetPolicy(bench *testing.B) {
	b := openBroker(bench, vfs.NewMem())
	for i := range 10_000 {
		b.declare(bench, fmt.Sprintf("queue.%d", i), "durable", 1)
	}
	b.sync(bench)
	bench.ReportAllocs()
	n := int64(0)
	for bench.Loop() {
		n++
		b.setPolicy(bench, UserPolicy, Policy{Name: "p", Pattern: "^queue", Definition: wire.Table{arg("max-length", 1_000_000+n)}})
	}
	if got := b.queue(bench, "queue.77").settings.Load().maxLength; got != 1_000_000+n {
		bench.Fatalf("the limit is %d after %d changes", got, n)
	}
}

// TestPolicyLimitsWhatIsThere lowers the limits of a queue that has messages: the
// oldest ones leave before the change is answered.
func TestPolicyLimitsWhatIsThere(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1, dlx("", "dead")...)
	dead := b.declare(t, "dead", "durable", 1)
	b.send(t, "", "q", 1, 2, 3, 4, 5)
	for _, step := range []struct{ limit, ready, dead uint64 }{{9, 5, 0}, {3, 3, 2}, {4, 3, 2}, {0, 0, 5}} {
		b.setPolicy(t, OperatorPolicy, Policy{Name: "p", Pattern: "q", Definition: wire.Table{arg("max-length", int64(step.limit))}})
		if left(q) != step.ready || left(dead) != step.dead {
			t.Errorf("with a limit of %d there are %d and %d dead letters, want %d and %d", step.limit, left(q), left(dead), step.ready, step.dead)
		}
	}
}
