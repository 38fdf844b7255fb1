// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/lagomq/lagomq/amqp/wire"
)

// targets are kinds of objects that a policy can apply to.
type targets uint8

const (
	toExchanges targets = 1 << iota
	toClassic
	toQuorum
	toStreams

	toQueues = toClassic | toQuorum | toStreams
	toAll    = toExchanges | toQueues
)

// applicable are the values of apply-to.
var applicable = map[string]targets{
	"all": toAll, "exchanges": toExchanges, "queues": toQueues,
	"classic_queues": toClassic, "quorum_queues": toQuorum, "streams": toStreams,
}

// policyKey is one setting that a policy's definition may have.
type policyKey struct {
	name string
	// targets are the queue types that know the setting. A policy with a setting
	// that a type does not know applies to no queue of that type, as in RabbitMQ 4.3.
	targets targets
	// operator says whether operator policies may set it too.
	operator bool
	valid    func(value any) bool
	what     string // what a value that is not valid fails to be
}

// Where RabbitMQ knows a setting for quorum queues only and LagoMQ for all queues
// of this broker, see the queue arguments.
const toMessageQueues = toClassic | toQuorum

// policyKeys are the settings of policies, with RabbitMQ 4.3's texts. Those of
// plugins that LagoMQ does not have are not recognised, as there. RabbitMQ 4.3
// refuses queue-master-locator, which once had an effect, unless it is told not to.
var policyKeys = []policyKey{
	{"alternate-exchange", toQueues, false, isName, "alternate exchange name"},
	{"cache-size", toMessageQueues, false, isPositive, "deduplication cache size"},
	{"cache-ttl", toMessageQueues, false, isPositive, "deduplication cache TTL"},
	{"consumer-disconnected-timeout", toQuorum, false, isPositive, "consumer disconnected timeout"},
	{"consumer-timeout", toMessageQueues, false, isPositive, "consumer timeout"},
	{"dead-letter-exchange", toMessageQueues, false, isName, "dead letter exchange name"},
	{"dead-letter-routing-key", toMessageQueues, false, isName, "dead letter routing key"},
	{"dead-letter-strategy", toQuorum, false, isKeyOf(deadLetterStrategies), "dead letter strategy"},
	{"deduplication-header", toMessageQueues, false, isName, "deduplication header"},
	{"delayed-retry-max", toMessageQueues, true, isNatural, "delayed retry maximum"},
	{"delayed-retry-min", toMessageQueues, true, isNatural, "delayed retry minimum"},
	{"delayed-retry-type", toMessageQueues, true, isKeyOf(retryKinds), "delayed retry type"},
	{"delivery-limit", toMessageQueues, true, isInteger, "delivery limit"},
	{"expires", toMessageQueues, true, isPositive, "queue expiry"},
	{"initial-cluster-size", toStreams, false, isNatural, "cluster size"},
	{"max-age", toStreams, false, isAge, "max age"},
	{"max-in-memory-bytes", toQuorum, true, isNatural, "maximum memory in bytes"},
	{"max-in-memory-length", toQuorum, true, isNatural, "maximum memory in bytes"},
	{"max-length", toMessageQueues, true, isNatural, "maximum length"},
	{"max-length-bytes", toQueues, true, isNatural, "maximum length in bytes"},
	{"message-deduplication", toMessageQueues, false, isBoolean, "message deduplication value"},
	{"message-ttl", toMessageQueues, true, isNatural, "message TTL"},
	{"overflow", toMessageQueues, true, isKeyOf(overflows), "overflow value"},
	{"queue-leader-locator", toQueues, false, isWord("client-local", "balanced", "random", "least-leaders"), "queue leader locator value"},
	{"queue-master-locator", toClassic, false, isWord("client-local", "min-masters", "random"), "queue master locator value"},
	{"queue-mode", toClassic, false, isWord("default", "lazy"), "queue-mode value"},
	{"queue-version", toClassic, true, isVersion, "queue-version value"},
	{"stream-filter-size-bytes", toStreams, false, isFilterSize, "filter size"},
	{"stream-max-segment-size-bytes", toStreams, false, isNatural, "segment size"},
	{"target-group-size", toQuorum, true, isNatural, "target group size"},
}

// policyKeyOf is the key of that name, nil if there is none.
func policyKeyOf(name string) *policyKey {
	i, found := slices.BinarySearchFunc(policyKeys, name, func(k policyKey, name string) int { return strings.Compare(k.name, name) })
	if !found {
		return nil
	}
	return &policyKeys[i]
}

// checkDefinition says what is wrong with a sorted definition, "" if it is good.
func checkDefinition(kind PolicyKind, definition wire.Table) string {
	if len(definition) == 0 {
		return "no policy provided"
	}
	var unknown []string
	for _, setting := range definition {
		switch key := policyKeyOf(setting.Name); {
		case key == nil || kind == OperatorPolicy && !key.operator:
			unknown = append(unknown, "{"+term(setting.Name)+","+term(setting.Value)+"}")
		case !key.valid(setting.Value):
			return term(setting.Value) + " is not a valid " + key.what
		}
	}
	if unknown != nil {
		return "[" + strings.Join(unknown, ",\n ") + "] are not recognised policy settings"
	}
	return ""
}

func isInteger(value any) bool {
	_, ok := wire.Integer(value)
	return ok
}

func isNatural(value any) bool {
	n, ok := wire.Integer(value)
	return ok && n >= 0
}

func isPositive(value any) bool {
	n, ok := wire.Integer(value)
	return ok && n > 0
}

func isVersion(value any) bool {
	n, ok := wire.Integer(value)
	return ok && (n == 1 || n == 2)
}

func isFilterSize(value any) bool {
	n, ok := wire.Integer(value)
	return ok && n >= 16 && n <= 255
}

func isBoolean(value any) bool {
	_, ok := value.(bool)
	return ok
}

// isName accepts what can name an exchange, be a routing key or name a header.
func isName(value any) bool {
	name, ok := value.(string)
	return ok && len(name) <= 255
}

var age = regexp.MustCompile(`^[0-9]+[YMDhms]$`)

func isAge(value any) bool {
	text, ok := value.(string)
	return ok && age.MatchString(text)
}

func isWord(words ...string) func(any) bool {
	return func(value any) bool {
		word, ok := value.(string)
		return ok && slices.Contains(words, word)
	}
}

func isKeyOf[T any](words map[string]T) func(any) bool {
	return func(value any) bool {
		word, ok := value.(string)
		_, known := words[word]
		return ok && known
	}
}

// term writes a value as RabbitMQ's texts do, which print Erlang terms.
func term(value any) string {
	if n, ok := wire.Integer(value); ok {
		return strconv.FormatInt(n, 10)
	}
	switch v := value.(type) {
	case nil:
		return "null"
	case string:
		text := `<<"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
		if strings.ContainsFunc(v, func(r rune) bool { return r > unicode.MaxASCII }) {
			text += "/utf8"
		}
		return text + ">>"
	case wire.Array:
		elements := make([]string, len(v))
		for i := range v {
			elements[i] = term(v[i])
		}
		return "[" + strings.Join(elements, ",") + "]"
	case wire.Table:
		fields := make([]string, len(v))
		for i, f := range v {
			fields[i] = term(f.Name) + " => " + term(f.Value)
		}
		return "#{" + strings.Join(fields, ",") + "}"
	}
	return fmt.Sprint(value)
}
