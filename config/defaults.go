// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

//go:embed lagomq.default.yaml
var defaultFile string

// DefaultFile is the documented default file, a good start for one's own.
func DefaultFile() string { return defaultFile }

// Default is the configuration that lagomq.default.yaml describes. ClusterName
// is empty: it depends on the host, and Load fills it in.
func Default() Config {
	var c Config
	v := newViper()
	if err := v.ReadConfig(strings.NewReader(defaultFile)); err != nil {
		panic(fmt.Sprintf("config: embedded default file: %v", err))
	}
	for _, s := range c.settings() {
		if err := s.set(v.Get(s.key)); err != nil {
			panic(fmt.Sprintf("config: embedded default file: %s %v", s.key, err))
		}
	}
	return c
}

func newViper() *viper.Viper {
	v := viper.New()
	v.SetConfigType("yaml")
	v.AllowEmptyEnv(true) // LAGOMQ_MANAGEMENT_ADDR= turns the listener off
	return v
}

// descriptions maps each key of a YAML text to the comment above it, as one line.
func descriptions(text string) (map[string]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("read comments: %w", err)
	}
	found := map[string]string{}
	var walk func(section *yaml.Node, prefix string)
	walk = func(section *yaml.Node, prefix string) {
		for i := 0; i+1 < len(section.Content); i += 2 {
			name, value := section.Content[i], section.Content[i+1]
			if value.Kind == yaml.MappingNode {
				walk(value, prefix+name.Value+".")
				continue
			}
			var words []string
			for line := range strings.Lines(name.HeadComment) {
				words = append(words, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
			}
			found[prefix+name.Value] = strings.Join(words, " ")
		}
	}
	for _, root := range doc.Content {
		walk(root, "")
	}
	return found, nil
}
