// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Command lagomq is the LagoMQ message broker and its tools.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/cmd/lagomq/ctl"
	"github.com/lagomq/lagomq/cmd/lagomq/perf"
)

func main() {
	root := &cobra.Command{
		Use:           "lagomq",
		Short:         "LagoMQ, a message broker for RabbitMQ clients",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serverCommand(), perf.Command(), ctl.Command(), versionCommand())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "lagomq:", err)
		os.Exit(1)
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "lagomq", lagomq.Version)
			return err
		},
	}
}
