// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the broker beside the relay, the least a Go process can
// do to pass messages on, with lagomq perf as the load: relay, broker, relay,
// broker, each run with a fresh process and an empty data directory. It prints
// the medians as a table in Markdown.
//
// Absolute rates say as much about the machine and the load generator as about
// the broker; the ratio of neighbouring runs and the broker's CPU time per
// message say more.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// scenario is one load. drain loads are filled by the first arguments and
// measured with the second, in one process.
type scenario struct {
	name    string
	fill    []string
	args    []string
	durable bool // the disk's synced write rate is a yardstick too
	size    int  // body size in bytes
}

func (s *scenario) String() string { return "perf " + strings.Join(s.args, " ") }

var seconds = flag.Int("seconds", 4, "length of each run")

func scenarios() []scenario {
	z := []string{"-z", strconv.Itoa(*seconds)}
	with := func(args string) []string { return append(strings.Fields(args), z...) }
	return []scenario{
		{name: "transient 16 B, 1:1, autoack", args: with("-x 1 -y 1 -s 16 -a"), size: 16},
		{name: "publish only, transient 16 B", args: with("-x 1 -y 0 -s 16 --auto-delete=false -u only"), size: 16},
		{name: "transient 16 B, confirms 1000", args: with("-x 1 -y 1 -s 16 -a -c 1000"), size: 16},
		{
			name: "persistent 1 KiB, confirms 1000, prefetch 1000, ack 100",
			args: with("-x 1 -y 1 -s 1024 -f persistent -c 1000 -q 1000 --multi-ack-every 100"), durable: true, size: 1024,
		},
		{
			name: "publish only, persistent 16 B",
			args: with("-x 1 -y 0 -s 16 -f persistent --auto-delete=false -u only"), durable: true, size: 16,
		},
		{
			name: "drain 2 M persistent 16 B, prefetch 1000, ack 100",
			fill: strings.Fields("-x 1 -y 0 -s 16 -f persistent --auto-delete=false -u drain -C 2000000"),
			args: strings.Fields("-x 0 -y 1 -f persistent --auto-delete=false -u drain -q 1000 --multi-ack-every 100 -D 2000000"), size: 16,
		},
		{
			name: "64 connections, one persistent 16 B at a time, each waits for its confirm",
			args: with("-x 64 -y 0 -s 16 -c 1 -f persistent --auto-delete=false -u single"), durable: true, size: 16,
		},
		{
			name: "64 connections, the same with a consumer", // what it has by then is not stored
			args: with("-x 64 -y 1 -s 16 -c 1 -f persistent -a"), size: 16,
		},
		{name: "100 KB bodies, autoack", args: with("-x 1 -y 1 -s 100000 -a"), size: 100000},
		{name: "persistent 1 KiB, 1 unconfirmed", args: with("-x 1 -y 1 -s 1024 -f persistent -c 1 -a"), durable: true, size: 1024},
		{name: "64 producers, 1 queue, 1 consumer", args: with("-x 64 -y 1 -s 16 -a"), size: 16},
	}
}

// sample is one run.
type sample struct{ published, consumed, cpu, memory float64 }

func (s sample) rate() float64 { return max(s.published, s.consumed) }

func main() {
	log.SetFlags(0)
	runs := flag.Int("runs", 5, "runs of each kind and scenario")
	only := flag.String("only", "", "measure only scenarios whose name matches this regular expression")
	lagomq := flag.String("lagomq", "bin/lagomq", "the binary to measure, which is the load generator too")
	flag.Parse()
	if err := bench(*lagomq, *runs, *only); err != nil {
		log.Fatal("bench: ", err)
	}
}

func bench(lagomq string, runs int, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lagomq-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	relay := filepath.Join(dir, "relay")
	if out, err := exec.Command("go", "build", "-o", relay, "./integration/bench/relay").CombinedOutput(); err != nil {
		return fmt.Errorf("build the relay: %w\n%s", err, out)
	}
	printMachine(lagomq, runs)
	fmt.Println("| scenario | relay msg/s | CPU us | LagoMQ msg/s | CPU us | MB | ratio | of the disk |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, s := range scenarios() {
		if !wanted.MatchString(s.name) {
			continue
		}
		var relays, brokers []sample
		var ratios, disks []float64
		for i := range runs {
			r, err := measure(relay, lagomq, &s, func(port int) []string { return []string{"-addr", address(port)} })
			if err != nil {
				return fmt.Errorf("%s, relay: %w", s.name, err)
			}
			data := filepath.Join(dir, fmt.Sprint("data", i))
			b, err := measure(lagomq, lagomq, &s, func(port int) []string {
				return []string{"server", "--data-dir", data, "--amqp-addr", address(port), "--management-addr", "", "--log-level", "error"}
			})
			if err != nil {
				return fmt.Errorf("%s, broker: %w", s.name, err)
			}
			if err := os.RemoveAll(data); err != nil {
				return err
			}
			relays, brokers = append(relays, r), append(brokers, b)
			ratios = append(ratios, b.rate()/r.rate())
			if s.durable {
				rate, err := diskRate(dir)
				if err != nil {
					return err
				}
				disks = append(disks, b.rate()*float64(s.size)/rate)
			}
		}
		disk := "–"
		if s.durable {
			disk = fmt.Sprintf("%.2f", median(disks))
		}
		fmt.Printf("| %s | %s | %.2f | %s | %.2f | %.0f | %.2f | %s |\n", s.name,
			thousands(pick(relays, sample.rate)), pick(relays, cpuOf), thousands(pick(brokers, sample.rate)), pick(brokers, cpuOf),
			pick(brokers, func(s sample) float64 { return s.memory }), median(ratios), disk)
	}
	fmt.Println("\nCommands, each with `--uri amqp://guest:guest@127.0.0.1:PORT/`:")
	for _, s := range scenarios() {
		if wanted.MatchString(s.name) {
			fmt.Printf("- %s: `%v`\n", s.name, &s)
		}
	}
	return nil
}

func cpuOf(s sample) float64 { return s.cpu }

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// measure runs the load against a fresh process of binary.
func measure(binary, lagomq string, s *scenario, args func(port int) []string) (sample, error) {
	port, err := freePort()
	if err != nil {
		return sample{}, err
	}
	var output bytes.Buffer
	server := exec.Command(binary, args(port)...)
	server.Stdout, server.Stderr = &output, &output
	if err := server.Start(); err != nil {
		return sample{}, err
	}
	defer func() {
		// The process may have ended by itself; what counts was measured before.
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	}()
	if err := awaitPort(port); err != nil {
		return sample{}, fmt.Errorf("%w\n%s", err, &output)
	}
	if s.fill != nil {
		if _, err := load(lagomq, port, s.fill); err != nil {
			return sample{}, err
		}
	}
	before, err := cpuTime(server.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	result, err := load(lagomq, port, s.args)
	if err != nil {
		return sample{}, err
	}
	after, err := cpuTime(server.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	memory, err := resident(server.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	messages := max(result.Published, result.Consumed)
	if messages == 0 {
		return sample{}, errors.New("no message came through")
	}
	return sample{
		published: result.PublishRate, consumed: result.ConsumeRate,
		cpu:    float64((after - before).Microseconds()) / messages,
		memory: float64(memory) / 1e6,
	}, nil
}

// result is what is read of perf's last line.
type result struct {
	Published   float64 `json:"published"`
	Consumed    float64 `json:"consumed"`
	PublishRate float64 `json:"publish_rate"`
	ConsumeRate float64 `json:"consume_rate"`
}

func load(lagomq string, port int, args []string) (r result, err error) {
	uri := fmt.Sprintf("amqp://guest:guest@%s/", address(port))
	out, err := exec.Command(lagomq, append([]string{"perf", "--json", "--uri", uri}, args...)...).CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("perf %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		return r, fmt.Errorf("read perf's result: %w\n%s", err, out)
	}
	return r, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func awaitPort(port int) error {
	for range 200 {
		c, err := net.Dial("tcp", address(port))
		if err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the server does not listen")
}

// cpuTime is user and system time of a process (proc(5), stat).
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is in parentheses and may hold spaces.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// resident is a process's resident memory in bytes.
func resident(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	return pages * os.Getpagesize(), err
}

// diskRate is how many bytes a second can be written one after the other, with
// every 256 KiB synced.
func diskRate(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "disk")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 256<<10)
	written := 0
	started := time.Now()
	for time.Since(started) < time.Second {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		written += len(block)
	}
	return float64(written) / time.Since(started).Seconds(), nil
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

func pick(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return median(values)
}

func thousands(rate float64) string {
	if rate < 10000 {
		return fmt.Sprintf("%.1f k", rate/1000)
	}
	return fmt.Sprintf("%.0f k", rate/1000)
}

func printMachine(lagomq string, runs int) {
	version, err := exec.Command(lagomq, "version").Output()
	fmt.Printf("%s, %s, %d cores, %s. %s. Medians of %d alternating runs of %d s.\n\n",
		time.Now().Format(time.DateOnly), cmp.Or(cpuModel(), runtime.GOARCH), runtime.NumCPU(), runtime.Version(),
		cmp.Or(strings.TrimSpace(string(version)), fmt.Sprint(err)), runs, *seconds)
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "model name"); ok {
			return strings.Trim(name, "\t :")
		}
	}
	return ""
}
