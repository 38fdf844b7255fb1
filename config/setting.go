// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// envPrefix starts the name of every environment variable that is ours.
const envPrefix = "LAGOMQ_"

// setting is one key of the configuration and the field of a Config it fills.
type setting struct {
	key   string // "amqp.addr"
	field reflect.Value
}

// env is the setting's environment variable: LAGOMQ_AMQP_ADDR.
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// flag is the setting's flag without the dashes: amqp-addr.
func (s setting) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.key)
}

// settings lists c's fields in the order they are declared. Setting a field
// changes c.
func (c *Config) settings() []setting {
	var list []setting
	var walk func(section reflect.Value, prefix string)
	walk = func(section reflect.Value, prefix string) {
		for i := range section.NumField() {
			key := prefix + section.Type().Field(i).Tag.Get("config")
			if field := section.Field(i); field.Kind() == reflect.Struct {
				walk(field, key+".")
			} else {
				list = append(list, setting{key: key, field: field})
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), "")
	return list
}

// set gives the field a value as YAML (text, whole number, yes or no, list) or
// as the environment and flags (always text) hold it. On error the field is
// unchanged; the error never contains text, which may be a password.
func (s setting) set(raw any) error {
	var value any
	var err error
	switch s.field.Interface().(type) {
	case string:
		value, err = asText(raw)
	case int:
		value, err = asInt(raw)
	case Size:
		value, err = asSize(raw)
	case time.Duration:
		value, err = asDuration(raw)
	case []string:
		value, err = asList(raw)
	default:
		err = fmt.Errorf("has the unsupported type %s", s.field.Type())
	}
	if err != nil {
		return err
	}
	s.field.Set(reflect.ValueOf(value))
	return nil
}

// mistake is a value of the wrong form, with what to write instead.
type mistake struct{ wrong, remedy string }

func (m mistake) Error() string { return m.wrong + "; " + m.remedy }

func asText(raw any) (string, error) {
	text, ok := raw.(string)
	if !ok {
		// 0123, 1e3 and yes mean something else to YAML than what was typed.
		return "", mistake{"is not text to YAML", "put the value in quotes"}
	}
	return text, nil
}

func asInt(raw any) (int, error) {
	switch value := raw.(type) {
	case int:
		return value, nil
	case string:
		if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
			return n, nil
		}
	}
	return 0, mistake{fmt.Sprintf("%v is not a whole number", raw), "write digits only, as in 60"}
}

func asSize(raw any) (Size, error) {
	size, err := ParseSize(fmt.Sprint(raw))
	if err != nil {
		return 0, mistake{fmt.Sprintf("%v is not a size", raw), "write bytes, or a whole number with KiB, MiB or GiB, as in 64MiB"}
	}
	return size, nil
}

func asDuration(raw any) (time.Duration, error) {
	// A number alone is refused, 0 excepted: RabbitMQ counts some of its settings
	// in milliseconds and others in seconds.
	d, err := time.ParseDuration(strings.TrimSpace(fmt.Sprint(raw)))
	if err != nil {
		return 0, mistake{fmt.Sprintf("%v is not a duration", raw), "write a number with its unit, as in 500ms, 10s or 2m"}
	}
	return d, nil
}

func asList(raw any) ([]string, error) {
	list := []string{}
	switch value := raw.(type) {
	case string:
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		return list, nil
	case []any:
		for _, item := range value {
			text, err := asText(item)
			if err != nil {
				return nil, mistake{"holds an item that is not text to YAML", "put the item in quotes"}
			}
			list = append(list, text)
		}
		return list, nil
	}
	return nil, mistake{"is not a list", "write it as [one, two], or [] for none"}
}

// text is the field's value as the environment and flags would write it.
func (s setting) text() string {
	if list, ok := s.field.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(s.field.Interface())
}
