// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

func inspectCommand() *cobra.Command {
	var (
		dir          string
		asJSON, read bool
	)
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Show what a stopped broker has stored, and whether it is sound",
		Long: "Lists virtual hosts, queues and their messages in the data directory of a broker that is stopped,\n" +
			"verifies all checksums, and fails if anything is damaged. It changes nothing.",
		Example: "  lagomq ctl inspect --data-dir /var/lib/lagomq\n  lagomq ctl inspect --data-dir /var/lib/lagomq --json --verify=false",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withInspection(cmd.Context(), dir, func(in *persistence.Inspection, c *catalog) error {
				r, err := inspect(cmd.Context(), in, c, read)
				if err != nil {
					return err
				}
				r.DataDir = dir
				write := r.text
				if asJSON {
					write = r.json
				}
				if err := write(cmd.OutOrStdout()); err != nil {
					return fmt.Errorf("write the report: %w", err)
				}
				if n := len(r.Damage); n > 0 {
					return fmt.Errorf("%s in %s; see lagomq ctl repair and repair-queue", plural(n, "damaged place"), dir)
				}
				return nil
			})
		},
	}
	dataDirFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&read, "verify", true, "read and verify the messages too; without, only what is kept about them")
	return cmd
}

// report is what inspect has found.
type report struct {
	DataDir      string       `json:"data_dir"`
	Format       int          `json:"format"`
	LastStop     string       `json:"last_stop"` // orderly, or not orderly: the broker runs as after a crash
	Commit       uint64       `json:"commit"`    // number of the latest
	VHosts       []*vhostView `json:"vhosts"`
	Total        counts       `json:"total"`
	Unreclaimed  counts       `json:"unreclaimed"`   // deleted, but not yet removed from disk
	WithoutQueue counts       `json:"without_queue"` // of queues that are not declared; removed at the next start
	Damage       []finding    `json:"damage"`
	Verified     bool         `json:"verified"` // whether messages were read
}

type vhostView struct {
	Name      string       `json:"name"`
	Exchanges int          `json:"exchanges"` // declared ones
	Bindings  int          `json:"bindings"`
	Queues    []*queueView `json:"queues"`
}

type queueView struct {
	Name      string         `json:"name"`
	Type      string         `json:"type"`
	Durable   bool           `json:"durable"`
	Arguments map[string]any `json:"arguments"`
	counts
	First uint64 `json:"first"` // number of the first message, if there is any; its level in the highest byte
	Last  uint64 `json:"last"`
}

// counts are of messages in runs.
type counts struct {
	Runs    int    `json:"runs"`
	Ready   uint64 `json:"ready"`   // messages that will be ready
	Delayed uint64 `json:"delayed"` // came back, and are delivered again later
	Leaving uint64 `json:"leaving"` // left, and their dead letters wait
	Settled uint64 `json:"settled"` // settled ones that share a run with others
	Bytes   uint64 `json:"bytes"`   // of all of these
}

// add counts a run. The error says that what is stored of its messages cannot be read.
func (c *counts) add(r *persistence.InspectedRun) error {
	live := r.Live()
	leaving, delayed, err := queue.StoredAway([]byte(r.Counts), r.Count, queue.Bitmap(r.Settled))
	c.Runs++
	c.Ready += uint64(live - leaving - delayed)
	c.Delayed += uint64(delayed)
	c.Leaving += uint64(leaving)
	c.Settled += uint64(r.Count - live)
	c.Bytes += r.Bytes
	return err
}

// live is how many messages are not settled.
func (c *counts) live() uint64 { return c.Ready + c.Delayed + c.Leaving }

// finding is one damaged place.
type finding struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Queue   string `json:"queue,omitempty"`
	Lost    string `json:"lost,omitempty"`
	Reason  string `json:"reason"`
}

func (f finding) String() string {
	text := f.Kind + ": " + f.Subject + ": " + f.Reason
	if f.Lost != "" {
		text += "; " + f.Lost
	}
	return text
}

// inspect makes the report; read says whether to read messages.
func inspect(ctx context.Context, in *persistence.Inspection, c *catalog, read bool) (*report, error) {
	s := in.Summary()
	r := &report{Format: s.Format, LastStop: "orderly", Commit: s.Commit, Verified: read, Damage: []finding{}, VHosts: []*vhostView{}}
	if !s.Orderly {
		r.LastStop = "not orderly"
	}
	r.Damage = append(r.Damage, c.malformed...)
	for _, d := range c.dangling() {
		r.Damage = append(r.Damage, finding{Kind: "metadata", Subject: c.describe(d), Reason: "it belongs to what is not declared"})
	}
	views := r.declared(c)
	v := persistence.Visitor{
		Run: func(run *persistence.InspectedRun) {
			q, exists := views[run.Queue]
			var err error
			switch {
			case run.Condemned:
				err = r.Unreclaimed.add(run)
			case !exists:
				err = r.WithoutQueue.add(run)
			default:
				err = r.Total.add(run)
				q.add(run)
			}
			if err != nil {
				r.Damage = append(r.Damage, c.finding(&persistence.Damage{
					Kind: persistence.DamagedMark, Queue: run.Queue, First: run.First, Reason: err.Error(),
				}))
			}
		},
		Damage: func(d persistence.Damage) { r.Damage = append(r.Damage, c.finding(&d)) },
	}
	walk := in.WalkDirectories
	if read {
		v.Body = checkPage
		walk = in.Walk
	}
	if err := walk(ctx, v); err != nil {
		return nil, err
	}
	return r, nil
}

// checkPage says what is wrong with the messages of a run.
func checkPage(r *persistence.InspectedRun, body []byte) error {
	page, err := queue.ParsePage(body)
	if err != nil {
		return err
	}
	if page.Len() != int(r.Count) {
		return fmt.Errorf("it holds %d messages and the queue's directory says %d", page.Len(), r.Count)
	}
	return nil
}

// declared fills in what is declared, and returns the queues by id.
func (r *report) declared(c *catalog) map[uint64]*queueView {
	vhosts := map[uint64]*vhostView{}
	for id, v := range c.vhosts {
		view := &vhostView{Name: v.name, Queues: []*queueView{}}
		vhosts[id] = view
		r.VHosts = append(r.VHosts, view)
	}
	slices.SortFunc(r.VHosts, func(a, b *vhostView) int { return cmp.Compare(a.Name, b.Name) })
	for _, x := range c.exchanges {
		if v := vhosts[x.vhost]; v != nil {
			v.Exchanges++
		}
	}
	for _, b := range c.bindings {
		if v := vhosts[b.vhost]; v != nil {
			v.Bindings++
		}
	}
	queues := map[uint64]*queueView{}
	for id := range c.stores {
		queues[id] = new(queueView) // counted, but in no list of queues
	}
	for id, q := range c.queues {
		view := &queueView{Name: q.name, Type: "classic", Durable: q.durable, Arguments: map[string]any{}}
		queues[id] = view
		for _, f := range q.table {
			view.Arguments[f.Name] = argument(f.Value)
			if name, ok := f.Value.(string); ok && f.Name == "x-queue-type" {
				view.Type = name
			}
		}
		if v := vhosts[q.vhost]; v != nil {
			v.Queues = append(v.Queues, view)
		}
	}
	for _, v := range r.VHosts {
		slices.SortFunc(v.Queues, func(a, b *queueView) int { return cmp.Compare(a.Name, b.Name) })
	}
	return queues
}

// argument is a queue's argument as JSON can show it.
func argument(value any) any {
	switch value := value.(type) {
	case string, bool:
		return value
	default:
		if n, ok := wire.Integer(value); ok {
			return n
		}
		return fmt.Sprint(value)
	}
}

func (q *queueView) add(r *persistence.InspectedRun) {
	if q.Runs == 0 {
		q.First = r.First
	}
	q.Last = r.First + uint64(r.Count) - 1
	_ = q.counts.add(r) // which Total's has reported
}

// finding says in an operator's words what is damaged and what is lost with it.
func (c *catalog) finding(d *persistence.Damage) finding {
	f := finding{Kind: string(d.Kind), Reason: d.Reason}
	if d.Queue != 0 {
		f.Queue = c.queueName(d.Queue)
		f.Subject = f.Queue
	}
	switch d.Kind {
	case persistence.DamagedState:
		f.Subject = "how the broker was stopped"
		f.Lost = "messages count as delivered before"
	case persistence.DamagedCounter:
		f.Subject = "the database's own counters"
	case persistence.DamagedConfig:
		key := decodeKey(d.Config())
		f.Subject = c.describe(key)
		if key.kind == queueKind {
			f.Lost = "the queue and all its messages"
		}
	case persistence.DamagedEntry:
		f.Lost = fmt.Sprintf("a run of at most %d messages from number %s on", persistence.MaxRunMessages, queue.NumberText(d.First))
	case persistence.DamagedMark:
		f.Lost = fmt.Sprintf("settled messages of the run at number %s come back, and those that were delayed or leaving are ready", queue.NumberText(d.First))
	case persistence.DamagedDelivered:
		f.Lost = "all its messages count as delivered before"
	case persistence.DamagedDeletion:
		f.Lost = fmt.Sprintf("messages deleted from number %s on may come back", queue.NumberText(d.First))
	case persistence.DamagedBody:
		if d.Queue == 0 { // what that means for queues is told of each
			f.Subject = fmt.Sprintf("key %x", d.Key)
			break
		}
		f.Lost = fmt.Sprintf("messages %s, %d of them not settled", numbersText(d.First, d.First+uint64(d.Count)-1), d.Live)
	case persistence.DamagedFile:
		f.Subject = fmt.Sprintf("keys %x to %x cannot be read", d.Key, d.Until)
		if f.Queue != "" {
			f.Subject = f.Queue + ": " + f.Subject
		}
		f.Lost = "what is stored there"
	}
	return f
}

// numbersText writes the message numbers first to last, each with its level if that
// is not 0.
func numbersText(first, last uint64) string {
	return queue.NumberText(first) + " to " + queue.NumberText(last)
}

func (r *report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func (r *report) text(w io.Writer) error {
	fmt.Fprintf(w, "%s: format %d, last stop %s, commit %d\n", r.DataDir, r.Format, r.LastStop, r.Commit)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range r.VHosts {
		fmt.Fprintf(t, "\nvirtual host %s: %s, %s, %s\n", v.Name, plural(len(v.Queues), "queue"), plural(v.Exchanges, "exchange"), plural(v.Bindings, "binding"))
		if len(v.Queues) > 0 {
			fmt.Fprint(t, "  queue\ttype\truns\tready\tdelayed\tleaving\tsettled\tbytes\tnumbers\targuments\n")
		}
		for _, q := range v.Queues {
			numbers := "-"
			if q.Runs > 0 {
				numbers = numbersText(q.First, q.Last)
			}
			fmt.Fprintf(t, "  %s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n",
				q.Name, q.Type, q.Runs, q.Ready, q.Delayed, q.Leaving, q.Settled, q.Bytes, numbers, q.short())
		}
	}
	fmt.Fprintf(t, "\nin all: %s\n", r.Total)
	if r.Unreclaimed.Runs > 0 {
		fmt.Fprintf(t, "deleted, and on disk until the broker has time: %s\n", r.Unreclaimed)
	}
	if r.WithoutQueue.Runs > 0 {
		fmt.Fprintf(t, "of queues that are not declared, deleted at the next start: %s\n", r.WithoutQueue)
	}
	for _, f := range r.Damage {
		fmt.Fprintf(t, "DAMAGED %s\n", f)
	}
	if len(r.Damage) == 0 {
		what := "everything is sound"
		if !r.Verified {
			what = "what is kept about messages is sound; the messages themselves were not read"
		}
		fmt.Fprintln(t, what)
	}
	return t.Flush()
}

// String implements [fmt.Stringer].
func (c counts) String() string {
	text := plural(c.Ready, "message") + " ready"
	if c.Delayed > 0 {
		text += fmt.Sprintf(", %d delayed", c.Delayed)
	}
	if c.Leaving > 0 {
		text += fmt.Sprintf(", %d leaving", c.Leaving)
	}
	return fmt.Sprintf("%s, %d settled, %d bytes in %s", text, c.Settled, c.Bytes, plural(c.Runs, "run"))
}

// short is the queue's arguments on one line.
func (q *queueView) short() string {
	text, err := json.Marshal(q.Arguments)
	if err != nil || len(q.Arguments) == 0 {
		return "-"
	}
	return string(text)
}
