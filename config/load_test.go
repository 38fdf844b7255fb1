// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// write puts a settings file into a directory of its own and names it.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lagomq.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// clearEnv hides the LAGOMQ_ variables of whoever runs the tests.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) {
			t.Setenv(name, value) // restores it afterwards
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLoadWithoutAnything(t *testing.T) {
	clearEnv(t)
	got, err := Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if host, found := strings.CutPrefix(got.ClusterName, "lagomq@"); !found || host == "" {
		t.Errorf("cluster name %q, want lagomq@ and the host", got.ClusterName)
	}
	want := Default()
	want.ClusterName = got.ClusterName
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Each layer sets one thing more than the next, so every rank shows.
func TestLoadPrecedence(t *testing.T) {
	clearEnv(t)
	file := write(t, `
amqp: {addr: "file:1"}
management.addr: "file:2"
heartbeat: 1
channel_max: 1
max_message_size: 1MiB
max_tx_bytes: 2097152
loopback_users: [a, b]
storage:
  settle_delay: 1s
`)
	t.Setenv("LAGOMQ_HEARTBEAT", "2")
	t.Setenv("LAGOMQ_CHANNEL_MAX", "2")
	t.Setenv("LAGOMQ_DEBUG_ADDR", "env:3")
	t.Setenv("LAGOMQ_DEFAULT_PASS", "0123")
	got, err := Load([]string{"--config", file, "--channel-max=3", "--storage-memtable-size", "8 MiB"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.ClusterName = got.ClusterName
	want.AMQP.Addr = "file:1"
	want.Management.Addr = "file:2"
	want.Debug.Addr = "env:3"
	want.DefaultPass = "0123"
	want.Heartbeat = 2
	want.ChannelMax = 3
	want.MaxMessageSize = MiB
	want.MaxTxBytes = 2 * MiB
	want.LoopbackUsers = []string{"a", "b"}
	want.Storage.SettleDelay = time.Second
	want.Storage.MemtableSize = 8 * MiB
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLoadFileFromEnvironment(t *testing.T) {
	clearEnv(t)
	t.Setenv("LAGOMQ_CONFIG", write(t, "heartbeat: 7"))
	got, err := Load(nil)
	if err != nil || got.Heartbeat != 7 {
		t.Errorf("heartbeat %d, error %v", got.Heartbeat, err)
	}
	got, err = Load([]string{"--config", write(t, "heartbeat: 8")})
	if err != nil || got.Heartbeat != 8 {
		t.Errorf("the flag does not override LAGOMQ_CONFIG: heartbeat %d, error %v", got.Heartbeat, err)
	}
}

// The default file itself, an empty file and one with an empty section are all
// fine and change nothing.
func TestLoadFilesThatChangeNothing(t *testing.T) {
	clearEnv(t)
	want, err := Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{DefaultFile(), "", "# nothing\n", "amqp:\n", "amqp: {}\n", "---\n"} {
		got, err := Load([]string{"--config", write(t, text)})
		if err != nil {
			t.Errorf("%.20q: %v", text, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%.20q: got %+v\nwant %+v", text, got, want)
		}
	}
}

func TestEmptyVariableIsAValue(t *testing.T) {
	clearEnv(t)
	t.Setenv("LAGOMQ_MANAGEMENT_ADDR", "")
	t.Setenv("LAGOMQ_LOOPBACK_USERS", "")
	got, err := Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Management.Addr != "" || len(got.LoopbackUsers) != 0 {
		t.Errorf("management.addr %q, loopback_users %q, want both empty", got.Management.Addr, got.LoopbackUsers)
	}
}

// Everything wrong, wherever it is, comes in one error, one line each.
func TestLoadReportsAllProblems(t *testing.T) {
	clearEnv(t)
	file := write(t, `
amqp: 5672
management:
  adr: ":1"
heartbeat:
default_pass: 12345
max_message_size: 1MB
handshake_timeout: 10
frame_max: 4096
log: {level: loud}
`)
	t.Setenv("LAGOMQ_CHANEL_MAX", "1")
	t.Setenv("LAGOMQ_SOMETHING_QUITE_DIFFERENT", "1")
	t.Setenv("LAGOMQ_CHANNEL_MAX", "many")
	_, err := Load([]string{"--config", file, "--shutdown-timeout=soon", "extra"})
	want := strings.ReplaceAll(`the configuration has 13 problems:
  - flags: "extra" is not a flag; see --help for the flags there are
  - amqp (FILE): is a section, not a setting; write its settings indented below it
  - heartbeat (FILE): has no value; give it one, or delete the line to keep the default
  - management.adr (FILE): is not a setting; did you mean management.addr?
  - LAGOMQ_CHANEL_MAX (environment): is not a setting; did you mean LAGOMQ_CHANNEL_MAX?
  - LAGOMQ_SOMETHING_QUITE_DIFFERENT (environment): is not a setting; remove it, or look up the name in the default file
  - default_pass (FILE): is not text to YAML; put the value in quotes
  - channel_max (LAGOMQ_CHANNEL_MAX): many is not a whole number; write digits only, as in 60
  - handshake_timeout (FILE): 10 is not a duration; write a number with its unit, as in 500ms, 10s or 2m
  - max_message_size (FILE): 1MB is not a size; write bytes, or a whole number with KiB, MiB or GiB, as in 64MiB
  - shutdown_timeout (--shutdown-timeout): soon is not a duration; write a number with its unit, as in 500ms, 10s or 2m
  - log.level (FILE): "loud" is not known; use one of debug, info, warn, error
  - frame_max (FILE): 4096 is out of range; use 8192 to 16777216`, "FILE", file)
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if strings.Contains(err.Error(), "12345") {
		t.Error("the error shows a password")
	}
}

func TestLoadRefusesFiles(t *testing.T) {
	clearEnv(t)
	for _, c := range []struct{ name, text, want string }{
		{"broken", "amqp: [", "is not one YAML document"},
		{"a list", "- amqp\n- log\n", "is not a YAML map of settings"},
		{"a text", "hello", "is not a YAML map of settings"},
		{"two documents", "heartbeat: 1\n---\nheartbeat: 2\n", "line 2: a second document starts"},
		{"a key twice", "heartbeat: 1\nheartbeat: 2\n", "already defined"},
		{"a list of numbers", "loopback_users: [1]\n", "put the item in quotes"},
		{"a map for a list", "loopback_users: {guest: true}\n", "loopback_users"},
		{"a list for a text", "data_dir: [x]\n", "is not text to YAML"},
		{"a fraction", "heartbeat: 1.5\n", "1.5 is not a whole number"},
	} {
		_, err := Load([]string{"--config", write(t, c.text)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	_, err := Load([]string{"--config", filepath.Join(t.TempDir(), "absent.yaml")})
	if err == nil || !strings.Contains(err.Error(), "check --config or LAGOMQ_CONFIG") {
		t.Errorf("absent file: error %v", err)
	}
}

func TestLoadFlagErrors(t *testing.T) {
	clearEnv(t)
	if _, err := Load([]string{"--help"}); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("--help: error %v, want pflag.ErrHelp", err)
	}
	t.Setenv("LAGOMQ_HEARTBEAT", "x")
	_, err := Load([]string{"--heart-beat=1"})
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("an unknown flag hides the other problem: %v", err)
	}
}

// A Kubernetes service called lagomq must not keep the broker from starting.
func TestKubernetesServiceLinksAreIgnored(t *testing.T) {
	clearEnv(t)
	for _, name := range []string{
		"LAGOMQ_SERVICE_HOST", "LAGOMQ_SERVICE_PORT", "LAGOMQ_SERVICE_PORT_AMQP", "LAGOMQ_PORT",
		"LAGOMQ_PORT_5672_TCP", "LAGOMQ_PORT_5672_TCP_ADDR", "LAGOMQ_HEADLESS_SERVICE_HOST", "LAGOMQ_HEADLESS_PORT_5672_TCP_PORT",
	} {
		t.Setenv(name, "tcp://10.0.0.1:5672")
	}
	if _, err := Load(nil); err != nil {
		t.Error(err)
	}
	for _, s := range new(Config).settings() {
		if kubernetesLink.MatchString(s.env()) {
			t.Errorf("%s looks like a Kubernetes service link: slips in it would go unnoticed", s.env())
		}
	}
}
