// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of page_size in RabbitMQ 4.3.
const (
	defaultPageSize = 100
	maxPageSize     = 500
)

// paged is a list of which one page is shown.
type paged struct {
	FilteredCount int `json:"filtered_count"` // items whose name matches
	ItemCount     int `json:"item_count"`     // on this page
	Items         any `json:"items"`
	Page          int `json:"page"`
	PageCount     int `json:"page_count"`
	PageSize      int `json:"page_size"`
	TotalCount    int `json:"total_count"`
}

// listing shows list as the query asks: page, page_size, name and use_regex choose
// from it, sort and sort_reverse order it, columns=a,b.c keeps some fields of each
// item. Without page the answer is a bare array of everything, and name means
// nothing, as in RabbitMQ 4.3. list is reordered in place.
func listing[T any](r *http.Request, list []T, name func(*T) string) (any, error) {
	query := r.URL.Query()
	if key := query.Get("sort"); key != "" {
		sortBy(list, strings.Split(key, "."), query.Get("sort_reverse") == "true")
	}
	if !query.Has("page") {
		return columns(query, list), nil
	}
	answer := paged{TotalCount: len(list)}
	var err error
	if answer.Page, err = positive(query, "page", 1); err != nil {
		return nil, err
	}
	if answer.PageSize, err = positive(query, "page_size", defaultPageSize); err != nil {
		return nil, err
	}
	if answer.PageSize > maxPageSize {
		return nil, badRequest("page_size must not be greater than %d", maxPageSize)
	}
	if list, err = named(query, list, name); err != nil {
		return nil, err
	}
	answer.FilteredCount = len(list)
	answer.PageCount = max(1, (len(list)+answer.PageSize-1)/answer.PageSize)
	if answer.Page > answer.PageCount {
		return nil, &problem{http.StatusBadRequest, "page_out_of_range",
			fmt.Sprintf("Page out of range, page: %d page size: %d, len: %d", answer.Page, answer.PageSize, len(list))}
	}
	from := (answer.Page - 1) * answer.PageSize
	page := list[from:min(from+answer.PageSize, len(list))]
	answer.ItemCount, answer.Items = len(page), columns(query, page)
	return answer, nil
}

// single shows one object as the query asks: with columns only some fields of it.
func single[T any](r *http.Request, object T) (any, error) {
	if paths := columnPaths(r.URL.Query()); paths != nil {
		return pick(reflect.ValueOf(object), paths), nil
	}
	return object, nil
}

func badRequest(format string, args ...any) *problem {
	return &problem{http.StatusBadRequest, "bad_request", fmt.Sprintf(format, args...)}
}

// positive is a query parameter that has to be a positive number.
func positive(query url.Values, key string, missing int) (int, error) {
	text := query.Get(key)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, badRequest("%s %q is not a positive number", key, text)
	}
	return n, nil
}

// named keeps the items whose name contains the parameter name or, with
// use_regex, matches it, in either case whatever the case of letters.
func named[T any](query url.Values, list []T, name func(*T) string) ([]T, error) {
	pattern := query.Get("name")
	if pattern == "" {
		return list, nil
	}
	if query.Get("use_regex") != "true" {
		pattern = regexp.QuoteMeta(pattern)
	}
	matcher, err := regexp.Compile("(?i:" + pattern + ")")
	if err != nil {
		return nil, badRequest("name is not a regular expression: %v", err)
	}
	return slices.DeleteFunc(list, func(item T) bool { return !matcher.MatchString(name(&item)) }), nil
}

func sortBy[T any](list []T, path []string, reverse bool) {
	slices.SortStableFunc(list, func(a, b T) int {
		order := compareFields(lookup(reflect.ValueOf(a), path), lookup(reflect.ValueOf(b), path))
		if reverse {
			return -order
		}
		return order
	})
}

// compareFields orders two values of one field; a missing one comes first.
func compareFields(a, b reflect.Value) int {
	switch {
	case !a.IsValid() || !b.IsValid():
		return compareBools(a.IsValid(), b.IsValid())
	case a.CanInt() && b.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint() && b.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	case a.CanFloat() && b.CanFloat():
		return cmp.Compare(a.Float(), b.Float())
	case a.Kind() == reflect.Bool && b.Kind() == reflect.Bool:
		return compareBools(a.Bool(), b.Bool())
	}
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// columnPaths are the fields that the parameter columns asks for, nil for all.
func columnPaths(query url.Values) [][]string {
	var paths [][]string
	for name := range strings.SplitSeq(query.Get("columns"), ",") {
		if name != "" {
			paths = append(paths, strings.Split(name, "."))
		}
	}
	return paths
}

func columns[T any](query url.Values, list []T) any {
	paths := columnPaths(query)
	if paths == nil {
		return list
	}
	picked := make([]map[string]any, len(list))
	for i := range list {
		picked[i] = pick(reflect.ValueOf(list[i]), paths)
	}
	return picked
}

// pick copies the fields that paths name, each at its place inside the object. A
// field that does not exist is left out.
func pick(object reflect.Value, paths [][]string) map[string]any {
	picked := map[string]any{}
	for _, path := range paths {
		value := lookup(object, path)
		if !value.IsValid() {
			continue
		}
		place := picked
		for _, name := range path[:len(path)-1] {
			inner, ok := place[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				place[name] = inner
			}
			place = inner
		}
		place[path[len(path)-1]] = value.Interface()
	}
	return picked
}

// lookup finds a field by its names in JSON, from the outside in. The result is
// not valid if there is none.
func lookup(v reflect.Value, path []string) reflect.Value {
	for _, name := range path {
		v = member(inner(v), name)
	}
	return inner(v)
}

// inner is what a pointer or an interface holds.
func inner(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}

func member(v reflect.Value, name string) reflect.Value {
	switch v.Kind() {
	case reflect.Map:
		return v.MapIndex(reflect.ValueOf(name))
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Anonymous {
				if found := member(v.Field(i), name); found.IsValid() {
					return found
				}
				continue
			}
			if tag, _, _ := strings.Cut(field.Tag.Get("json"), ","); tag == name {
				return v.Field(i)
			}
		}
	}
	return reflect.Value{}
}
