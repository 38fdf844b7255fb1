// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
)

// names projects the settings to their keys, variables or flags.
func names(settings []setting, of func(setting) string) []string {
	list := make([]string, len(settings))
	for i, s := range settings {
		list[i] = of(s)
	}
	return list
}

// isSection reports whether key is what other keys are below of, as amqp is.
func isSection(key string, keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, key+".") })
}

// suggest is the remedy for an unknown name: the known one that was probably
// meant, if one is near enough.
func suggest(name string, known []string) string {
	// A few slips are a typing error; more than a third of the name is a guess.
	best, nearest := "", min(4, len(name)/3+1)
	for _, candidate := range known {
		if d := editDistance(name, candidate); d < nearest {
			best, nearest = candidate, d
		}
	}
	if best == "" {
		return "remove it, or look up the name in the default file"
	}
	return "did you mean " + best + "?"
}

// editDistance is Levenshtein's: how many bytes to insert, delete or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1) // distances from a[:i] to each b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
