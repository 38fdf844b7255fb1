// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lagomq/lagomq/persistence"
)

type repairOptions struct {
	dir string
	yes bool
}

func repairCommand() *cobra.Command {
	var o repairOptions
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Give up what keeps a stopped broker from starting",
		Long: "Lists what is damaged in a data directory besides the messages themselves, and with --yes removes\n" +
			"it, so that the broker can be started with the rest. If parts of the database's files cannot be\n" +
			"read, the database is written anew without them; that takes as much space again, and the damaged\n" +
			"one is kept. Damaged messages are the business of repair-queue.\n\n" +
			"A backup that is recent enough is better than any repair.",
		Example: "  lagomq ctl repair --data-dir /var/lib/lagomq\n  lagomq ctl repair --data-dir /var/lib/lagomq --yes",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withInspection(cmd.Context(), o.dir, func(in *persistence.Inspection, c *catalog) error {
				return o.run(cmd.Context(), cmd.OutOrStdout(), in, c)
			})
		},
	}
	dataDirFlag(cmd, &o.dir)
	yesFlag(cmd, &o.yes)
	return cmd
}

func (o *repairOptions) run(ctx context.Context, w io.Writer, in *persistence.Inspection, c *catalog) error {
	var repair persistence.Repair
	queues := map[uint64]uint64{} // messages of each
	err := in.Walk(ctx, persistence.Visitor{
		Run: func(r *persistence.InspectedRun) {
			if !r.Condemned {
				queues[r.Queue] += uint64(r.Live())
			}
		},
		Damage: func(d persistence.Damage) {
			repair.Damage = append(repair.Damage, d)
			fmt.Fprintln(w, c.finding(&d))
		},
	})
	if err != nil {
		return err
	}
	for _, f := range c.malformed {
		fmt.Fprintf(w, "left as it is: %s\n", f)
	}
	c.reviveVHost(w, &repair)
	c.removeDangling(w, &repair)
	for queue, messages := range queues {
		_, isQueue := c.queues[queue]
		_, isExchange := c.stores[queue]
		if !isQueue && !isExchange && len(repair.Damage) > 0 && messages > 0 {
			fmt.Fprintf(w, "%s of queue number %d, which is not declared, will be removed when the broker is started\n", plural(messages, "message"), queue)
		}
	}
	if len(repair.Damage) == 0 && len(repair.DeleteConfig) == 0 && len(repair.SetConfig) == 0 {
		_, err := fmt.Fprintln(w, "nothing is to be repaired")
		return err
	}
	if !o.yes {
		_, err := fmt.Fprintln(w, "nothing was changed; give --yes to give up what is listed")
		return err
	}
	repair.LastID = c.lastID
	if err := in.Repair(ctx, repair); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, "repaired")
	return err
}

// reviveVHost declares a damaged virtual host anew: its key has its name, and what
// belongs to it has its id. That is certain if there is only one.
func (c *catalog) reviveVHost(w io.Writer, r *persistence.Repair) {
	var damaged []*declared
	for i := range r.Damage {
		if d := &r.Damage[i]; d.Kind == persistence.DamagedConfig {
			if v := decodeKey(d.Config()); v.kind == vhostKind {
				damaged = append(damaged, v)
			}
		}
	}
	lost := c.lostVHosts()
	if len(damaged) != 1 || len(lost) != 1 {
		return
	}
	v := damaged[0]
	for id := range lost {
		v.vhost = id
	}
	c.vhosts[v.vhost] = v
	r.SetConfig = append(r.SetConfig, persistence.ConfigEntry{Key: bytes.Clone(v.key), Value: encodeVHost(v.vhost)})
	fmt.Fprintf(w, "%s can be declared again with all that belongs to it\n", c.describe(v))
}

// removeDangling removes what belongs to something that is not, or will not be,
// declared.
func (c *catalog) removeDangling(w io.Writer, r *persistence.Repair) {
	for _, d := range c.dangling() {
		r.DeleteConfig = append(r.DeleteConfig, d.key)
		delete(c.queues, d.id)
		delete(c.stores, d.id)
		fmt.Fprintf(w, "metadata: %s belongs to what is not declared: it is removed too\n", c.describe(d))
	}
}
