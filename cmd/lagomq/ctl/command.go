// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package ctl is the commands with which operators look after a broker's data
// directory: a backup while the broker runs, and inspection and repair while it is
// stopped.
package ctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lagomq/lagomq/persistence"
)

// Command returns the ctl command. Its subcommands fail with one line of text;
// inspect also fails when it has found damage, after the report.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ctl",
		Short: "Back up, inspect and repair a broker's data",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(backupCommand(), inspectCommand(), repairQueueCommand(), repairCommand())
	return cmd
}

// dataDirFlag adds the flag that names the data directory.
func dataDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data-dir", "data", "data directory of the broker, which must be stopped")
}

// yesFlag adds the flag without which nothing is changed.
func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVar(yes, "yes", false, "make the changes, instead of only listing them")
}

// withInspection calls use with the data directory opened, and the catalog of what
// is declared in it.
func withInspection(ctx context.Context, dir string, use func(*persistence.Inspection, *catalog) error) (err error) {
	in, err := persistence.OpenInspection(nil, dir)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, in.Close())
	}()
	c := newCatalog()
	if err := in.WalkConfig(ctx, persistence.Visitor{Config: c.add}); err != nil {
		return err
	}
	return use(in, c)
}

// plural is a number and its noun.
func plural[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if noun[len(noun)-1] == 'y' {
		return fmt.Sprintf("%d %sies", n, noun[:len(noun)-1])
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
