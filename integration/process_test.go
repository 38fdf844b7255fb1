// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// binaryDir is where the server command is built, a directory of this test run.
var binaryDir = filepath.Join(os.TempDir(), fmt.Sprint("lagomq-integration-", os.Getpid()))

// buildBinary builds the server command when the first test wants it.
var buildBinary = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(binaryDir, "lagomq")
	if output, err := exec.Command("go", "build", "-o", path, "../cmd/lagomq").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, output)
	}
	return path, nil
})

// removeBinary is for TestMain to call after all tests.
func removeBinary() { _ = os.RemoveAll(binaryDir) } // the system cleans up what is left

// serverProcess is a broker in a process of its own.
type serverProcess struct {
	t      testing.TB
	cmd    *exec.Cmd
	stderr bytes.Buffer // to be read once the process has ended
	banner string       // what it wrote to its standard output until it was ready
	addr   string       // where it listens

	management string // the address of its HTTP API, if it was given one
}

// command prepares a server process that listens on a free port. Only the
// settings in env reach it from the environment.
func command(t testing.TB, env []string, args ...string) *serverProcess {
	t.Helper()
	binary, err := buildBinary()
	must(t, err)
	p := &serverProcess{t: t}
	args = append([]string{"server", "--amqp-addr", "127.0.0.1:0", "--management-addr", ""}, args...)
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir, p.cmd.Env = t.TempDir(), append([]string{}, env...)
	p.cmd.Stderr = &p.stderr
	return p
}

// startProcess starts a server and waits until it is ready. It is killed at the
// end of the test at the latest.
func startProcess(t testing.TB, env []string, args ...string) *serverProcess {
	t.Helper()
	p := command(t, env, args...)
	if !p.ready() {
		t.Fatalf("the server did not get ready:\n%s%s", p.banner, p.stderr.String())
	}
	return p
}

// ready starts the prepared process and reports whether it got ready; if not it
// has ended.
func (p *serverProcess) ready() bool {
	p.t.Helper()
	stdout, err := p.cmd.StdoutPipe()
	must(p.t, err)
	must(p.t, p.cmd.Start())
	p.t.Cleanup(func() {
		p.kill()
		if p.t.Failed() {
			p.t.Logf("the server said:\n%s", p.stderr.String())
		}
	})
	watchdog := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() }) // ends the loop below
	defer watchdog.Stop()
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		p.banner += line + "\n"
		if addr, found := strings.CutPrefix(line, "AMQP 0-9-1"); found {
			p.addr = strings.TrimSpace(addr)
		}
		if url, found := strings.CutPrefix(line, "Management"); found {
			p.management = strings.TrimSpace(url)
		}
		if strings.Contains(line, "Ready") {
			return true
		}
	}
	_ = p.cmd.Wait() // its output says more
	return false
}

// url is where clients connect as guest.
func (p *serverProcess) url() string { return "amqp://guest:guest@" + p.addr + "/" }

// stand stops the process where it is, and returns when it does nothing any more.
func (p *serverProcess) stand() {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	must(p.t, err)
	if !status.Stopped() {
		p.t.Fatalf("the server ended: %v", status)
	}
}

// kill ends the process at once, as kill -9 does.
func (p *serverProcess) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill() // it may just have ended by itself
		_ = p.cmd.Wait()
	}
}

// exitCode waits for the process's end.
func (p *serverProcess) exitCode() int {
	p.t.Helper()
	watchdog := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	err := p.cmd.Wait()
	if !watchdog.Stop() {
		p.t.Fatalf("the server did not end:\n%s", p.stderr.String())
	}
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// terminate sends SIGTERM and expects an orderly end.
func (p *serverProcess) terminate() {
	p.t.Helper()
	p.endBy(syscall.SIGTERM)
}

// endBy sends a signal and expects an orderly end.
func (p *serverProcess) endBy(signal syscall.Signal) {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(signal))
	if code := p.exitCode(); code != 0 {
		p.t.Errorf("exit code %d:\n%s", code, p.stderr.String())
	}
}

func (p *serverProcess) dial() *amqp091.Connection {
	p.t.Helper()
	connection, err := amqp091.Dial(p.url())
	must(p.t, err)
	p.t.Cleanup(func() { _ = connection.Close() }) // the server may be gone
	return connection
}

func TestServerStartsAndStops(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "new", "data")
	server := startProcess(t, nil, "--data-dir", data)
	for _, part := range []string{"LagoMQ", server.addr, data, "guest"} {
		if !strings.Contains(server.banner, part) {
			t.Errorf("the banner does not mention %q:\n%s", part, server.banner)
		}
	}
	connection := server.dial()
	channel := openChannel(t, connection)
	if _, err := channel.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	publishConfirmed(t, channel, amqp091.Persistent, "", "q", "kept")
	closed := connection.NotifyClose(make(chan *amqp091.Error, 1))
	server.terminate()
	wantException(t, next(t, closed), amqp091.ConnectionForced, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")

	server = startProcess(t, nil, "--data-dir", data)
	if got := drain(t, openChannel(t, server.dial()), "q"); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	server.terminate()
}

// A client that does not answer holds the stop up for no longer than is set.
func TestServerStopsWithoutTheClient(t *testing.T) {
	t.Parallel()
	server := startProcess(t, nil, "--shutdown-timeout", "100ms")
	c := connectTo(t, server.addr)
	c.login(wireLogin{})
	server.terminate()
}

func TestServerRefusesSecondStart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	server := startProcess(t, nil, "--data-dir", data)
	second := command(t, nil, "--data-dir", data)
	must(t, second.cmd.Start())
	if code := second.exitCode(); code == 0 {
		t.Error("a second server started on the same data")
	}
	message := second.stderr.String()
	if !strings.Contains(message, data) || !strings.Contains(message, "in use") || strings.Count(message, "\n") > 2 {
		t.Errorf("unclear message:\n%s", message)
	}
	openChannel(t, server.dial()) // the first one goes on
	server.terminate()
}

func TestServerReportsEveryProblem(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lagomq.yaml")
	must(t, os.WriteFile(file, []byte("frame_mx: 8192\nheartbeat: 70000\nlog:\n  colour: red\n"), 0o600))
	server := command(t, []string{"LAGOMQ_CHANNEL_MAX=0"}, "--config", file)
	must(t, server.cmd.Start())
	if code := server.exitCode(); code == 0 {
		t.Error("the server started")
	}
	for _, part := range []string{"frame_mx", "heartbeat", "log.colour", "channel_max"} {
		if !strings.Contains(strings.ToLower(server.stderr.String()), part) {
			t.Errorf("%s is not reported:\n%s", part, server.stderr.String())
		}
	}
}

// Flags win over the environment, which wins over the file.
func TestServerSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lagomq.yaml")
	must(t, os.WriteFile(file, []byte("default_user: file\ndefault_pass: file\ndefault_vhost: file\n"), 0o600))
	server := startProcess(t, []string{"LAGOMQ_DEFAULT_USER=env", "LAGOMQ_DEFAULT_PASS=env"},
		"--config", file, "--default-user", "flag", "--log-format", "json")
	connection, err := amqp091.Dial("amqp://flag:env@" + server.addr + "/file")
	must(t, err)
	must(t, connection.Close())
	server.terminate()
	for line := range strings.Lines(server.stderr.String()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("a log line is not JSON: %s", line)
		}
	}
}
