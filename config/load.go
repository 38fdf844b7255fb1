// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// The settings file is named by a flag or a variable, not by a setting: it could
// not be in the file.
const (
	fileFlag = "config"
	fileEnv  = envPrefix + "CONFIG"
)

// Flags is a new flag set with --config and one flag for each setting, for
// LoadFlags. All hold text, so that a bad value is reported with all others.
func Flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("lagomq server", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Usage = func() {}
	fs.String(fileFlag, "", "`FILE` with settings, in YAML")
	// An unreadable default file is caught by Default.
	about, _ := descriptions(defaultFile)
	defaults := Default()
	for _, s := range defaults.settings() {
		sentence, _, _ := strings.Cut(about[s.key], ". ")
		usage := strings.TrimSuffix(sentence, ".")
		if value := s.text(); value != "" {
			usage += " [" + value + "]"
		}
		fs.String(s.flag(), "", usage)
	}
	return fs
}

// Load reads the settings from the defaults, the file that --config or
// LAGOMQ_CONFIG names, the environment and args (without the program's name).
// Its error is a Problems that lists all that is wrong, or wraps pflag.ErrHelp.
func Load(args []string) (Config, error) {
	fs := Flags()
	err := fs.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return Config{}, fmt.Errorf("read flags: %w", err)
	case err != nil:
		return load(fs, Problems{{Subject: "flags", Wrong: err.Error(), Remedy: "see --help for the flags there are"}})
	case fs.NArg() > 0:
		return load(fs, Problems{{Subject: "flags", Wrong: fmt.Sprintf("%q is not a flag", fs.Arg(0)), Remedy: "see --help for the flags there are"}})
	}
	return load(fs, nil)
}

// LoadFlags is Load for flags that were parsed elsewhere: fs must hold all of
// Flags, and may hold more.
func LoadFlags(fs *pflag.FlagSet) (Config, error) { return load(fs, nil) }

// loader carries one load. Problems gather; a setting with a bad value keeps its
// default, so that the values around it can still be checked.
type loader struct {
	cfg      Config
	settings []setting // fields of cfg
	flags    *pflag.FlagSet
	file     *viper.Viper // the user's file alone
	fileName string       // empty without one
	problems Problems
}

func load(fs *pflag.FlagSet, problems Problems) (Config, error) {
	l := &loader{cfg: Default(), flags: fs, file: newViper(), problems: problems}
	l.settings = l.cfg.settings()
	l.readFile()
	l.checkEnv(os.Environ())
	l.merge()
	if l.cfg.ClusterName == "" {
		l.cfg.ClusterName = "lagomq@" + hostname()
	}
	var invalid Problems
	if errors.As(l.cfg.Validate(), &invalid) {
		for _, p := range invalid {
			p.Source = l.source(p.Subject)
			l.problems = append(l.problems, p)
		}
	}
	return l.cfg, l.problems.orNil()
}

// readFile reads the user's file, if one is named, and drops from it what is not
// a setting.
func (l *loader) readFile() {
	l.fileName = os.Getenv(fileEnv)
	if flag := l.flags.Lookup(fileFlag); flag != nil && flag.Changed {
		l.fileName = flag.Value.String()
	}
	if l.fileName == "" {
		return
	}
	data, err := os.ReadFile(l.fileName)
	if err != nil {
		l.add(l.fileName, "cannot be read: "+err.Error(), "check --"+fileFlag+" or "+fileEnv)
		return
	}
	if err := oneDocument(data); err != nil {
		l.add(l.fileName, "is not one YAML document: "+err.Error(), "compare it with the default file")
		return
	}
	whole := newViper()
	if err := whole.ReadConfig(bytes.NewReader(data)); err != nil {
		l.add(l.fileName, "is not a YAML map of settings: "+err.Error(), "compare it with the default file")
		return
	}
	keys := names(l.settings, func(s setting) string { return s.key })
	for _, key := range slices.Sorted(slices.Values(whole.AllKeys())) {
		switch value := whole.Get(key); {
		case isSection(key, keys):
			if value != nil {
				l.addUnder(key, l.fileName, "is a section, not a setting", "write its settings indented below it")
			}
		case !slices.Contains(keys, key):
			l.addUnder(key, l.fileName, "is not a setting", suggest(key, keys))
		case value == nil:
			l.addUnder(key, l.fileName, "has no value", "give it one, or delete the line to keep the default")
		default:
			l.file.Set(key, value)
		}
	}
}

// oneDocument refuses broken YAML, and a second document, which would be ignored.
func oneDocument(data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("line %d: a second document starts", second.Line)
}

// kubernetesLink matches the variables that Kubernetes gives every container for
// a service called lagomq, or lagomq-anything. They are not meant for us.
var kubernetesLink = regexp.MustCompile(
	`^LAGOMQ_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// checkEnv finds variables with our prefix that are nobody's setting.
func (l *loader) checkEnv(environ []string) {
	known := append(names(l.settings, setting.env), fileEnv)
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || kubernetesLink.MatchString(name) {
			continue
		}
		l.addUnder(name, "environment", "is not a setting", suggest(name, known))
	}
}

// merge sets every field that the file, the environment or a flag gives.
func (l *loader) merge() {
	v := newViper()
	for _, s := range l.settings {
		if l.file.IsSet(s.key) {
			v.SetDefault(s.key, l.file.Get(s.key))
		}
		err := v.BindEnv(s.key, s.env())
		if flag := l.flags.Lookup(s.flag()); err == nil && flag != nil && flag.Changed {
			err = v.BindPFlag(s.key, flag)
		}
		if err == nil && v.IsSet(s.key) {
			err = s.set(v.Get(s.key))
		}
		var m mistake
		switch {
		case errors.As(err, &m):
			l.addUnder(s.key, l.source(s.key), m.wrong, m.remedy)
		case err != nil:
			l.addUnder(s.key, l.source(s.key), err.Error(), "see the default file")
		}
	}
}

// source says where the value of a key comes from, in merge's order.
func (l *loader) source(key string) string {
	i := slices.IndexFunc(l.settings, func(s setting) bool { return s.key == key })
	if i < 0 {
		return ""
	}
	s := l.settings[i]
	if flag := l.flags.Lookup(s.flag()); flag != nil && flag.Changed {
		return "--" + s.flag()
	}
	if _, set := os.LookupEnv(s.env()); set {
		return s.env()
	}
	if l.file.IsSet(key) {
		return l.fileName
	}
	return "default"
}

func (l *loader) add(subject, wrong, remedy string) {
	l.addUnder(subject, "", wrong, remedy)
}

func (l *loader) addUnder(subject, source, wrong, remedy string) {
	l.problems = append(l.problems, Problem{Subject: subject, Source: source, Wrong: wrong, Remedy: remedy})
}

// hostname is the host's name without its domain, as in RabbitMQ's node names.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	short, _, _ := strings.Cut(name, ".")
	return short
}
