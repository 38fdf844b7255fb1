// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package persistence keeps what a broker must not lose in an embedded Pebble
// database: the bodies of messages, each queue's directory of them, what has
// been settled, and the metadata. It knows ids and bytes; what they mean is
// its callers' business.
//
// # Proposals and commits
//
// Callers state what was decided as a small closed set of [Record] values and
// hand them to [Store.Propose]. One committer goroutine takes all that has
// gathered and writes it as one batch, and while the disk works for that one it
// prepares the next. A reporter waits for the disk, once for everybody in a
// batch, and tells each [Waiter]. So a sync costs latency but hardly any
// throughput.
//
// Three rules make that safe, and everything in this package keeps them:
//
//   - Prefix: what is on disk after any commit is exactly the effect of the
//     first n proposals, for some n. Nothing proposed later than a commit's
//     last proposal may influence that commit, but for messages that were
//     settled by then and are not written. So a caller that drops a message
//     for the sake of another proposes both together.
//   - Whole: the records of one proposal are in one commit.
//   - Truth: Durable(nil) is called only after the sync of the commit that
//     holds the proposal, or when the proposal left nothing to write.
//
// A message that is settled before the committer takes it is not written at all. For
// messages that are expected to be, it waits a moment: see [Run.Fleeting].
//
// # Runs, shares and reference counts
//
// Messages are stored by the [Run]: one burst of messages with one body, which
// every queue that takes them shares. Each of those queues holds a [Share] of
// the run, kept on disk as an entry of the queue's directory. The body is
// deleted in the batch that deletes the entry of the last share. Reference
// counts are never stored: they are counted from the directories when the
// store is opened. As an entry and its body come and go in the same batches,
// there is never a body without an entry or an entry without its body, so no
// start has to look for them.
//
// Purged and deleted runs are condemned by ranges, see [Forget], and deleted in
// steps. Runs that only make room in memory, see [NewVolatileRun], are gone with
// the next start.
//
// # Failure
//
// After a failed write or sync nobody can say what the disk holds, and Pebble
// itself cannot go on. The store is then out of service: nothing is reported
// durable and what is proposed waits, while reads go on, or fail if there is no
// database as it was just being opened anew. Once the disk takes writes again, the
// database is opened inside the process, as the next generation. Each commit carries its number, so the database tells which of the
// batches that were not known to be durable had arrived; the others are written
// again, as they were, and the waiters are told as if nothing had happened. A
// store that is closed meanwhile, or whose disk has lost what had been durable, is
// given up: it answers with an error that wraps [ErrFailed].
//
// Tables that cannot be written are no such failure: Pebble tries again, and what
// they are to hold is in the log. That is counted and logged, and becomes a
// failure only when writes have to wait for it.
//
// # Damage
//
// Every value is sealed with a checksum over its key and itself, see [ErrDamaged].
// A start reads everything but bodies, so damage elsewhere refuses it, and damage
// to a body is the answer of [Store.ReadRun]. Pebble takes what it cannot read at
// the end of its log or manifest for a write that a crash cut short. So it is
// known from elsewhere where they end: after an orderly stop from the STATE file,
// after a crash from marks in the log that say which commit was durable. A
// database that ends before is refused before anything in it is changed.
//
// What is left of a damaged store can be looked at and saved by an [Inspection].
package persistence
