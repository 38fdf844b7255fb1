// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lagomq/lagomq/persistence"
)

type repairQueueOptions struct {
	dir, vhost, queue string
	yes               bool
}

func repairQueueCommand() *cobra.Command {
	var o repairQueueOptions
	cmd := &cobra.Command{
		Use:   "repair-queue",
		Short: "Give up the damaged messages of one queue of a stopped broker",
		Long: "Verifies all messages of a queue and lists those that are damaged or missing. With --yes it takes\n" +
			"them out of the queue; all others stay, in order, and the broker can be started.",
		Example: "  lagomq ctl repair-queue --data-dir /var/lib/lagomq --queue orders\n" +
			"  lagomq ctl repair-queue --data-dir /var/lib/lagomq --vhost / --queue orders --yes",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withInspection(cmd.Context(), o.dir, func(in *persistence.Inspection, c *catalog) error {
				return o.run(cmd.Context(), cmd.OutOrStdout(), in, c)
			})
		},
	}
	dataDirFlag(cmd, &o.dir)
	cmd.Flags().StringVar(&o.vhost, "vhost", "/", "virtual host of the queue")
	cmd.Flags().StringVar(&o.queue, "queue", "", "name of the queue")
	if err := cmd.MarkFlagRequired("queue"); err != nil {
		panic(err) // there is no such flag
	}
	yesFlag(cmd, &o.yes)
	return cmd
}

func (o *repairQueueOptions) run(ctx context.Context, w io.Writer, in *persistence.Inspection, c *catalog) error {
	q, err := c.find(o.vhost, o.queue)
	if err != nil {
		return err
	}
	var (
		damage []persistence.Damage
		kept   counts
		lost   uint64
		file   bool
	)
	err = in.WalkQueue(ctx, q.id, persistence.Visitor{
		Run: func(r *persistence.InspectedRun) {
			if !r.Condemned {
				_ = kept.add(r) // inspect tells
			}
		},
		Body: checkPage,
		Damage: func(d persistence.Damage) {
			damage = append(damage, d)
			lost += uint64(d.Live)
			file = file || d.Kind == persistence.DamagedFile
			fmt.Fprintln(w, c.finding(&d))
		},
	})
	if err != nil {
		return err
	}
	if len(damage) == 0 {
		_, err := fmt.Fprintf(w, "%s is sound: %s\n", c.queueName(q.id), kept)
		return err
	}
	if file {
		return errors.New("parts of the database's files cannot be read: use lagomq ctl repair first")
	}
	err = in.Sharers(ctx, damage, func(d *persistence.Damage, other, first uint64) {
		fmt.Fprintf(w, "%s has the messages %s as %s: repair it too\n", c.queueName(other),
			numbersText(d.First, d.First+uint64(d.Count)-1), numbersText(first, first+uint64(d.Count)-1))
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s are given up as far as they can be counted, %d stay\n", plural(lost, "message"), kept.live()-lost)
	if !o.yes {
		_, err := fmt.Fprintln(w, "nothing was changed; give --yes to repair the queue")
		return err
	}
	if err := in.Repair(ctx, persistence.Repair{Damage: damage, LastID: c.lastID}); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, "repaired")
	return err
}
