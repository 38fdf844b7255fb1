// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// PolicyKind tells the two sets of policies of a virtual host apart.
type PolicyKind uint8

const (
	// UserPolicy is a policy that whoever designs the queues sets.
	UserPolicy PolicyKind = iota
	// OperatorPolicy is a policy that whoever runs the broker sets. It limits what
	// arguments and user policies ask for.
	OperatorPolicy
	policyKinds
)

// String is the kind as RabbitMQ names it.
func (k PolicyKind) String() string {
	if k == OperatorPolicy {
		return "operator_policy"
	}
	return "policy"
}

// Policy configures the queues and exchanges of a virtual host whose name matches.
// To an object the policy of highest priority applies, and of several of the same
// priority the one whose name comes first.
type Policy struct {
	Name string
	// Pattern is a regular expression in the syntax of package regexp (RE2), which
	// names match that contain something it matches.
	Pattern string
	// ApplyTo is all, exchanges, queues, classic_queues, quorum_queues or streams. ""
	// is set as all.
	ApplyTo  string
	Priority int64
	// Definition are the settings, which is not to be changed afterwards.
	Definition wire.Table
}

// PolicyError says why a policy was not set: one line for each thing that is wrong.
type PolicyError struct{ Problems []string }

// Error is RabbitMQ 4.3's text.
func (e *PolicyError) Error() string {
	return "Validation failed\n\n" + strings.Join(e.Problems, "\n") + "\n"
}

// policy is a policy in force. It is immutable.
type policy struct {
	Policy
	pattern *regexp.Regexp
	targets targets
}

// compile makes a policy ready, or says what is wrong with it as a *PolicyError.
func compile(kind PolicyKind, p Policy) (*policy, error) {
	var problems []string
	p.Definition = p.Definition.Sorted()
	if problem := checkDefinition(kind, p.Definition); problem != "" {
		problems = append(problems, problem)
	}
	if p.ApplyTo == "" {
		p.ApplyTo = "all"
	}
	to, known := applicable[p.ApplyTo]
	if !known {
		problems = append(problems, "apply-to '"+p.ApplyTo+"' unrecognised; should be one of: "+
			"'queues', 'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'")
	}
	pattern, err := regexp.Compile(p.Pattern)
	if err != nil {
		problems = append(problems, "pattern should be regular expression but is invalid: "+invalidPattern(err))
	}
	if problems != nil {
		return nil, &PolicyError{problems}
	}
	return &policy{p, pattern, to & targetsOf(p.Definition)}, nil
}

// targetsOf are the objects that know all the settings of a definition; exchanges
// pass over what is for queues.
func targetsOf(definition wire.Table) targets {
	to := toAll
	for _, setting := range definition {
		if key := policyKeyOf(setting.Name); key != nil {
			to &= key.targets | toExchanges
		}
	}
	return to
}

// invalidPattern words an error of package regexp. RabbitMQ's patterns are Perl's,
// of which some features are not to be had in linear time.
func invalidPattern(err error) string {
	reason, ok := err.(*syntax.Error)
	if !ok {
		return err.Error()
	}
	text := fmt.Sprintf("%s: `%s`", reason.Code, reason.Expr)
	switch reason.Code {
	case syntax.ErrInvalidPerlOp, syntax.ErrInvalidEscape, syntax.ErrInvalidRepeatOp:
		text += " (lookaround, backreferences, possessive quantifiers and atomic groups are not supported)"
	}
	return text
}

// policies are all policies of a virtual host, of each kind in the order in which
// they win. They are immutable: a change makes new ones.
type policies [policyKinds][]*policy

// with returns the policies with p instead of the one of that name; p may be nil.
func (s *policies) with(kind PolicyKind, name string, p *policy) (changed *policies, existed bool) {
	changed = new(policies)
	*changed = *s
	list := slices.DeleteFunc(slices.Clone(s[kind]), func(other *policy) bool { return other.Name == name })
	existed = len(list) < len(s[kind])
	if p != nil {
		list = append(list, p)
		slices.SortFunc(list, func(a, b *policy) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Name, b.Name))
		})
	}
	changed[kind] = list
	return changed, existed
}

// match finds what applies to an object of that kind and name.
func (s *policies) match(object targets, name string) AppliedPolicies {
	var found [policyKinds]*policy
	for kind, list := range s {
		for _, p := range list {
			if p.targets&object != 0 && p.pattern.MatchString(name) {
				found[kind] = p
				break
			}
		}
	}
	return AppliedPolicies{found[UserPolicy], found[OperatorPolicy]}
}

// AppliedPolicies are the policies that apply to one queue or exchange: one of each
// kind at most.
type AppliedPolicies struct{ user, operator *policy }

// Policy is the name of the policy that applies, "" if there is none.
func (a AppliedPolicies) Policy() string { return a.user.name() }

// OperatorPolicy is the name of the operator policy that applies, "" if there is
// none.
func (a AppliedPolicies) OperatorPolicy() string { return a.operator.name() }

func (p *policy) name() string {
	if p == nil {
		return ""
	}
	return p.Name
}

func (p *policy) definition() wire.Table {
	if p == nil {
		return nil
	}
	return p.Definition
}

// Definition merges the definitions of both: what both set is the lesser of two
// numbers and the operator's word. It is sorted, and nil if no policy applies.
func (a AppliedPolicies) Definition() wire.Table {
	switch {
	case a.operator == nil:
		return a.user.definition()
	case a.user == nil:
		return a.operator.Definition
	}
	merged := slices.Clone(a.user.Definition)
	for _, setting := range a.operator.Definition {
		i := slices.IndexFunc(merged, func(f wire.Field) bool { return f.Name == setting.Name })
		if i < 0 {
			merged = append(merged, setting)
			continue
		}
		merged[i].Value = mergeSetting(setting.Name, merged[i].Value, setting.Value)
	}
	return merged.Sorted()
}

// mergeSetting is what a setting comes to that user and operator policy both have.
func mergeSetting(name string, user, operator any) any {
	n, number := wire.Integer(user)
	limit, ok := wire.Integer(operator)
	switch {
	case !number || !ok || name == "queue-version":
		return operator
	case name == "delivery-limit":
		return mergeDeliveryLimits(n, limit)
	case name == "target-group-size":
		return max(n, limit)
	}
	return min(n, limit)
}

// mergeDeliveryLimits is the lesser of two limits. A negative one, which stands for
// none, gives way to the other.
func mergeDeliveryLimits(a, b int64) int64 {
	if a < 0 || b < 0 {
		return max(a, b)
	}
	return min(a, b)
}
