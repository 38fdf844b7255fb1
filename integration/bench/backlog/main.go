// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Command backlog measures what waiting messages cost: resident memory a minute
// after the last publish, bytes on disk, and how long the broker takes to start
// with them, after an orderly stop and after kill -9. It prints rows of a table in
// Markdown. Every message is persistent, in durable queues.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// load is one kind of backlog.
type load struct {
	name     string
	queues   int
	messages int // in each queue
	// connections publish, each waiting for the confirm of each message before the
	// next if there are several; a single one never waits.
	connections int
}

var loads = []load{
	{"300,000 in one queue", 1, 300_000, 1},
	{"10 million in one queue", 1, 10_000_000, 1},
	{"10 million in one queue, one per commit and connection, 64 connections", 1, 10_000_000, 64},
	{"10,000 queues of 10", 10_000, 10, 1},
	{"10,000 queues of 1,000, one to each in turn", 10_000, 1_000, 1},
}

func main() {
	log.SetFlags(0)
	binary := flag.String("lagomq", "bin/lagomq", "the binary to measure")
	only := flag.String("only", "", "measure only loads whose name matches this regular expression")
	rest := flag.Duration("rest", time.Minute, "time between the last publish and the look at memory")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		log.Fatal("backlog: ", err)
	}
	fmt.Println("| waiting | published in s | MB resident | MB on disk | start ms | start after kill -9 ms |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, l := range loads {
		if !wanted.MatchString(l.name) {
			continue
		}
		if err := measure(*binary, l, *rest); err != nil {
			log.Fatalf("backlog: %s: %v", l.name, err)
		}
	}
}

func measure(binary string, l load, rest time.Duration) error {
	dir, err := os.MkdirTemp("", "lagomq-backlog-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := start(binary, dir)
	if err != nil {
		return err
	}
	defer func() { _ = b.stop(syscall.SIGKILL) }()
	begin := time.Now()
	if err := fill(b.address, l); err != nil {
		return err
	}
	took := time.Since(begin)
	time.Sleep(rest)
	memory, err := b.resident()
	if err != nil {
		return err
	}
	if err := b.stop(syscall.SIGTERM); err != nil {
		return err
	}
	disk, err := diskUse(dir)
	if err != nil {
		return err
	}
	var starts [2]time.Duration
	for i, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		if b, err = start(binary, dir); err != nil {
			return err
		}
		starts[i] = b.ready
		if err := b.stop(signal); err != nil {
			return err
		}
	}
	fmt.Printf("| %s | %.0f | %d | %d | %d | %d |\n", l.name, took.Seconds(), memory>>20, disk>>20,
		starts[0].Milliseconds(), starts[1].Milliseconds())
	return nil
}

// broker is a running server.
type broker struct {
	command *exec.Cmd
	address string
	ready   time.Duration // from its start to the first connection it takes
}

func start(binary, dir string) (*broker, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &broker{address: l.Addr().String()}
	if err := l.Close(); err != nil {
		return nil, err
	}
	b.command = exec.Command(binary, "server", "--data-dir", dir, "--amqp-addr", b.address, "--management-addr", "", "--log-level", "error")
	begin := time.Now()
	if err := b.command.Start(); err != nil {
		return nil, err
	}
	for time.Since(begin) < time.Minute {
		c, err := net.Dial("tcp", b.address)
		if err == nil {
			b.ready = time.Since(begin)
			return b, c.Close()
		}
		time.Sleep(time.Millisecond)
	}
	return nil, errors.Join(errors.New("the server does not listen"), b.stop(syscall.SIGKILL))
}

// stop ends the server; a second call does nothing.
func (b *broker) stop(signal syscall.Signal) error {
	if b.command.ProcessState != nil {
		return nil
	}
	if err := b.command.Process.Signal(signal); err != nil {
		return err
	}
	err := b.command.Wait()
	if exit := (*exec.ExitError)(nil); signal == syscall.SIGKILL && errors.As(err, &exit) {
		return nil
	}
	return err
}

// resident is the server's resident memory in bytes.
func (b *broker) resident() (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", b.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(text, "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.Join(errors.New("no VmRSS"), lines.Err())
}

func diskUse(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

// fill declares the queues and publishes, and returns when all is confirmed.
func fill(address string, l load) error {
	errs := make([]error, l.connections)
	var publishers sync.WaitGroup
	for i := range l.connections {
		publishers.Go(func() { errs[i] = publish(address, l, i) })
	}
	publishers.Wait()
	return errors.Join(errs...)
}

// publish is one connection's part of the load.
func publish(address string, l load, part int) error {
	conn, err := amqp.Dial("amqp://guest:guest@" + address + "/")
	if err != nil {
		return err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	names := make([]string, l.queues)
	for i := range names {
		names[i] = fmt.Sprint("backlog-", i)
		if _, err := ch.QueueDeclare(names[i], true, false, false, false, nil); err != nil {
			return err
		}
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte("0123456789abcdef")}
	total := l.queues * l.messages
	var last *amqp.DeferredConfirmation
	for n := part; n < total; n += l.connections {
		if last, err = ch.PublishWithDeferredConfirm("", names[n%l.queues], false, false, message); err != nil {
			return err
		}
		if l.connections > 1 || n/l.connections%10_000 == 0 {
			if err := wait(last); err != nil {
				return err
			}
		}
	}
	return wait(last)
}

func wait(c *amqp.DeferredConfirmation) error {
	acked, err := c.WaitContext(context.Background())
	if err == nil && !acked {
		err = errors.New("a message was refused")
	}
	return err
}
