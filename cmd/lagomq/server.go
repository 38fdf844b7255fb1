// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/config"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

func serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the broker",
		Long: "Run the broker until it gets SIGTERM, SIGINT or SIGHUP. Settings come from flags, the\n" +
			"environment (LAGOMQ_...), the file given with --config, and defaults, in this order.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.LoadFlags(cmd.Flags())
			if err != nil {
				return err
			}
			return runServer(cmd, c)
		},
	}
	cmd.Flags().AddFlagSet(config.Flags())
	return cmd
}

// runServer runs a broker until a signal ends it.
func runServer(cmd *cobra.Command, c config.Config) error {
	logger, err := newLogger(cmd.ErrOrStderr(), c.Log)
	if err != nil {
		return err
	}
	if c.Memory.GCPercent != 0 {
		debug.SetGCPercent(c.Memory.GCPercent)
	}
	if c.Memory.Limit != 0 {
		debug.SetMemoryLimit(int64(c.Memory.Limit))
	}
	broker, err := lagomq.New(brokerOptions(c, logger))
	if err != nil {
		return err
	}
	ends := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup does
		ends = append(ends, syscall.SIGHUP)
	}
	signals, stop := signal.NotifyContext(cmd.Context(), ends...)
	defer stop()
	started := time.Now()
	if err := broker.Start(signals); err != nil {
		return err
	}
	if err := startDebug(c.Debug.Addr, logger); err != nil {
		return errors.Join(err, broker.Shutdown(cmd.Context()))
	}
	banner(cmd.OutOrStdout(), broker, c, time.Since(started))
	<-signals.Done()
	stop() // a second signal ends the process at once
	logger.Info("shutting down")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), c.ShutdownTimeout)
	defer cancel()
	if err := broker.Shutdown(ctx); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	logger.Info("stopped")
	return nil
}

// brokerOptions turns the configuration into the broker's options.
func brokerOptions(c config.Config, logger *slog.Logger) lagomq.Options {
	heartbeat := c.Heartbeat
	if heartbeat == 0 {
		heartbeat = -1 // none; the options take 0 for the default
	}
	reserve := int64(c.Storage.FreeReserve)
	if reserve == 0 {
		reserve = -1 // likewise
	}
	return lagomq.Options{
		DataDir:        c.DataDir,
		AMQPAddr:       c.AMQP.Addr,
		ManagementAddr: c.Management.Addr,
		Users: []vhosts.User{{
			Name: c.DefaultUser, Password: c.DefaultPass, Tags: []string{"administrator"},
			LoopbackOnly: slices.Contains(c.LoopbackUsers, c.DefaultUser),
		}},
		VHosts: []string{c.DefaultVHost},
		AMQP: amqp.Options{
			Product: c.ServerProperties.Product, Version: c.ServerProperties.Version, ClusterName: c.ClusterName,
			Heartbeat: heartbeat, FrameMax: c.FrameMax, ChannelMax: c.ChannelMax,
			HandshakeTimeout: c.HandshakeTimeout,
			MaxMessageSize:   int64(c.MaxMessageSize), MaxTxBytes: int64(c.MaxTxBytes),
		},
		Hosts: vhosts.Options{
			DefaultQueueType: c.DefaultQueueType,
			ResidentBytes:    uint64(c.Queue.ResidentBytes), ResidentBudget: uint64(c.Queue.ResidentBudget),
		},
		Store: persistence.Options{
			MemTableSize: int64(c.Storage.MemtableSize), CacheSize: int64(c.Storage.CacheSize),
			SettleDelay: c.Storage.SettleDelay, MaxPendingBytes: int64(c.Storage.MaxPendingBytes),
			Reserve: reserve,
		},
		Logger: logger,
	}
}

func newLogger(w io.Writer, c config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log level %q: %w", c.Level, err)
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}

// startDebug serves Go's profiles on addr, if one is set, for as long as the
// process lives.
func startDebug(addr string, logger *slog.Logger) error {
	if addr == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for profiling: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(l); err != nil {
			logger.Error("profiling ended", "error", err)
		}
	}()
	return nil
}

// reachable is addr as a browser on this machine can use it: all addresses are
// not one.
func reachable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return addr.String()
}

// banner tells on one screen where the broker listens and stores.
func banner(w io.Writer, b *lagomq.Broker, c config.Config, took time.Duration) {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		dir = c.DataDir
	}
	fmt.Fprintf(w, "\n  LagoMQ %s\n\n", lagomq.Version)
	fmt.Fprintf(w, "  AMQP 0-9-1   %s\n", b.AMQPAddr())
	if addr := b.ManagementAddr(); addr != nil {
		fmt.Fprintf(w, "  Management   http://%s/\n", reachable(addr))
	}
	fmt.Fprintf(w, "  Data         %s\n", dir)
	fmt.Fprintf(w, "  Login        %s, virtual host %s\n", c.DefaultUser, c.DefaultVHost)
	fmt.Fprintf(w, "\n  Ready after %s. Stop with Ctrl-C.\n\n", took.Round(time.Millisecond))
}
