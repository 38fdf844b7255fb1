// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"encoding/base64"
	"math"
	"unicode/utf8"

	"github.com/lagomq/lagomq/amqp/wire"
)

// tableJSON turns an AMQP table into what encodes as RabbitMQ 4.3 shows it: an
// object, {} for an empty table. The first of fields of one name counts.
func tableJSON(t wire.Table) map[string]any {
	object := make(map[string]any, len(t))
	for _, f := range t {
		name := textJSON(f.Name)
		if _, seen := object[name]; !seen {
			object[name] = valueJSON(f.Value)
		}
	}
	return object
}

// valueJSON turns a value of an AMQP table into what encodes as RabbitMQ shows it.
// Floating-point values that JSON cannot express are null.
func valueJSON(value any) any {
	switch v := value.(type) {
	case string:
		return textJSON(v)
	case []byte:
		return textJSON(string(v))
	case wire.Table:
		return tableJSON(v)
	case wire.Array:
		list := make([]any, len(v))
		for i := range v {
			list[i] = valueJSON(v[i])
		}
		return list
	case wire.Decimal:
		return float64(v.Value) / math.Pow10(int(v.Scale))
	case float32:
		return finite(float64(v))
	case float64:
		return finite(v)
	}
	return value
}

func finite(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	return f
}

// textOrNull is a name that encodes as null if there is none.
func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	s = textJSON(s)
	return &s
}

// textJSON is s, or if it is not text, what RabbitMQ shows instead.
func textJSON(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return "Not UTF-8, base64 is: " + base64.StdEncoding.EncodeToString([]byte(s))
}
