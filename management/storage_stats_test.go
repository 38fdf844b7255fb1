// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"errors"
	"reflect"
	"testing"

	"github.com/lagomq/lagomq/persistence"
)

// Whatever the store tells of itself is shown.
func TestStorageStatsAreComplete(t *testing.T) {
	t.Parallel()
	var nothing persistence.Stats
	empty := newStorageStats(&nothing)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[persistence.Stats]()) {
		var st persistence.Stats
		switch value := reflect.ValueOf(&st).Elem().FieldByIndex(field.Index); {
		case value.CanInt():
			value.SetInt(1)
		case value.Kind() == reflect.Bool:
			value.SetBool(true)
		case value.Type() == reflect.TypeFor[persistence.Histogram]():
			value.Set(reflect.ValueOf(persistence.Histogram{Count: 1}))
		case value.Type() == reflect.TypeFor[error]():
			value.Set(reflect.ValueOf(errors.New("broken")))
		default:
			t.Fatalf("this test does not know how to set %s, a %s", field.Name, field.Type)
		}
		if reflect.DeepEqual(newStorageStats(&st), empty) {
			t.Errorf("%s is not shown", field.Name)
		}
	}
}

func TestAverageMilliseconds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		h    persistence.Histogram
		want float64
	}{
		{persistence.Histogram{}, 0},
		{persistence.Histogram{Count: 4, Sum: 0.5}, 125},
	} {
		if got := averageMilliseconds(&tc.h); got != tc.want {
			t.Errorf("average of %+v is %v ms, want %v", tc.h, got, tc.want)
		}
	}
}
