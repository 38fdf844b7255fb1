// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Queue is the shell around one queue's engine: its lock, its place in the
// vhost, and the carrying out of what the engine decides. Every method takes mu
// by itself unless its name ends in Locked.
//
// Lock order: VHost.mu -> Queue.mu -> channel and writer (inside the Sink) and
// -> the store's committer. No two Queue.mu are ever held together.
type Queue struct {
	// Constant from creation on.
	vhost     *VHost
	name      string
	id        uint64     // the store's name of the queue, never reused
	owner     uint64     // connection that owns an exclusive queue, 0 for others
	arguments wire.Table // with x-queue-type, sorted
	durable   bool
	autoDelete,
	exclusive bool
	delays   bool // holds the delayed messages of an exchange: neither routable nor in any list of queues
	volatile bool // a direct reply-to pseudo queue: routable, in no list

	settings atomic.Pointer[settings] // never nil; replaced under mu, see settingsChangedLocked
	window   atomic.Pointer[window]   // nil if it takes duplicates; replaced under VHost.routes
	blocked  atomic.Bool              // its letters wait for room in another queue, see waitForRoom

	forwarding sync.Mutex // held while a batch of letters is forwarded, which keeps their order; outermost

	mu            sync.Mutex
	engine        queue.Engine
	fx            queue.Effects
	records       []persistence.Record // what the store has to know, not proposed yet
	holding       bool                 // records wait for a transaction's proposal, see settleInto
	deleted       bool
	damaged       error           // why the queue is out of service, nil if it is not
	readFailed    time.Time       // when a read failed last, and was to be tried again
	exclusively   *queue.Consumer // the exclusive consumer, if there is one
	stats         QueueCounters
	dead          []departing // messages that are leaving for the dead letter exchange, after those in letters and gathered
	letters       []bundle    // such messages that can be forwarded; those being forwarded are taken off
	gathered      []bundle    // such messages that come after those in letters, read from the store
	gathering     *gathering  // of the first ones of dead, nil if none are
	appetite      int         // how many letters are gathered next, at most; 0 stands for the least
	gatheredBytes int64       // what gathered has of pageReaders.gathered
	bounds        bounds      // the limits of settings
	crowded       bool        // more is beyond them than could leave in one step
	steps         uint64      // changes of the limits, and of what is ready if there are some
	ready         uint64      // messages that were ready at the last step
	readyBytes    uint64      // and their bytes, if these are counted
	waiting       []*Queue    // whose letters wait for room here
	obstacles     []string    // while blocked, the queues that have no room for its letters
	routed        uint64      // and the version of the routes by which they went there
	idleSince     time.Time   // last time the queue became unused
	touched       bool        // something happened since the janitor was here
	resting       int         // times in a row that the janitor found it untouched
	resident      uint64      // what of Hosts.resident is this queue's
	wake          uint64      // when tick comes, 0 if it was not asked for
	alarm         alarm       // guarded by timers.mu
	expelledAt    uint64      // when messages became due last
	usedAt        uint64      // when the lease of a queue with x-expires began
	timeouts      timeouts    // of the consumers
	haste         haste       // of the consumers too
}

// QueueCounters count a queue's messages since it was made or recovered.
type QueueCounters struct {
	Published    uint64 // taken from publishers
	Delivered    uint64 // to consumers, with acknowledgement
	DeliveredNo  uint64 // to consumers, without acknowledgement
	Got          uint64 // by basic.get, with acknowledgement
	GotNo        uint64 // by basic.get, without acknowledgement
	GetEmpty     uint64 // basic.gets that found nothing
	Acknowledged uint64 // settled by acknowledgement
	Rejected     uint64 // settled by reject or nack without requeue
	Requeued     uint64 // put back
	TimedOut     uint64 // of these, those whose consumer held a message for too long
	Redelivered  uint64 // of the delivered and got ones, those delivered before
	Deduplicated uint64 // not taken, as duplicates

	Waited Waited // how long messages were there before they were handed out

	Refused uint64 // publishes that were refused as the queue had no room

	// Died counts messages that left the queue for each reason, DeadLettered those of
	// them that went to another queue by the dead letter exchange. LettersLost are
	// those that had nowhere to go, or waited too long for room there.
	Died, DeadLettered [queue.Reasons]uint64
	LettersLost        uint64
}

// Name is the queue's name, Durable whether it survives a restart.
func (q *Queue) Name() string { return q.name }

// Durable reports whether the queue survives a restart.
func (q *Queue) Durable() bool { return q.durable }

// Volatile reports whether this is a direct reply-to pseudo queue.
func (q *Queue) Volatile() bool { return q.volatile }

// Quorum reports whether the queue was declared with x-queue-type quorum.
func (q *Queue) Quorum() bool { return typeOf(q.arguments) == TypeQuorum }

// publish puts a publication's page at the queue's end and hands out what finds
// a taker. A queue deleted meanwhile takes nothing: the message came before the
// deletion. It reports whether the queue has letters now, which are to be forwarded.
func (q *Queue) publish(p *Publication) (letters bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deleted {
		return false
	}
	if q.bounds.refuses() {
		q.takeLocked(p)
		return len(q.letters) > 0
	}
	q.stats.Published += uint64(p.page.Len())
	run := q.engine.Append(q.level(p.priority), p.page, p.shareLocked(q))
	q.dispatchAtLocked(p.page.Arrived())
	q.keepLocked(p, run)
	return len(q.letters) > 0
}

// keepLocked sees to it that the page of a run that has just come can stay.
func (q *Queue) keepLocked(p *Publication, run *queue.Run) {
	if !run.Done() {
		p.stays = p.stays || q.durable && p.run != nil && !q.passesLocked(run)
		p.keepLocked(q, run)
		q.trimLocked()
	}
}

// extend adds the messages of a small page to the queue's newest run while the store
// has not taken that and nobody has got it: many publishers that each send one
// message and wait then make one run for each commit. w as in Hosts.Publish. It
// returns false if there is no such run.
func (q *Queue) extend(priority Priority, page *queue.Page, w persistence.Waiter) bool {
	q.mu.Lock()
	defer q.unlock()
	if q.deleted || q.bounds.refuses() {
		return false
	}
	run := q.engine.Extensible(q.level(priority))
	if run == nil {
		return false
	}
	if q.settings.Load().messageTTL != unset {
		page.KeepTimes(run.Page)
	}
	share, before := run.Stored.(*persistence.Share), run.Page.Weight()
	if !q.vhost.hosts.store.Extend(share, growingPage{storedPage{page}}, uint32(page.Len()), page.BodyBytes(), w) {
		return false
	}
	q.engine.Extended(run, before)
	q.stats.Published += uint64(page.Len())
	q.dispatchAtLocked(page.Arrived())
	q.trimLocked()
	return true
}

// Consume adds a consumer. ready is called under the queue's lock just before
// the consumer can get its first message: there the channel sends consume-ok.
// Errors: 403 when the queue or the request is exclusive and not alone, 404 when
// the queue has just been deleted.
func (q *Queue) Consume(c *queue.Consumer, exclusive bool, ready func()) *wire.Error {
	q.mu.Lock()
	defer q.unlock()
	if err := q.usableLocked(); err != nil {
		return err
	}
	if q.exclusively != nil || exclusive && !q.Quorum() && (len(q.engine.Consumers()) > 0 || q.engine.Single != queue.AllActive) {
		return wire.Errorf(wire.AccessRefused, "queue '%s' in vhost '%s' in exclusive use", q.name, q.vhost.name)
	}
	if exclusive && !q.Quorum() {
		q.exclusively = c
	}
	ready()
	q.timeouts.add(q.timeoutOf(c))
	q.engine.AddConsumer(c)
	q.dispatchLocked()
	return nil
}

// Cancel removes a consumer; what it holds stays unacked, within its timeout. An auto-delete queue
// goes with its last consumer.
func (q *Queue) Cancel(c *queue.Consumer) {
	q.mu.Lock()
	last := q.removeConsumerLocked(c)
	q.consumerLeftLocked(c)
	q.dispatchLocked()
	q.unlock()
	if last && q.autoDelete {
		q.vhost.deleteUnused(q)
	}
}

// removeConsumerLocked removes a consumer and reports whether it was the last one.
func (q *Queue) removeConsumerLocked(c *queue.Consumer) (last bool) {
	removed := q.engine.RemoveConsumer(c)
	if q.exclusively == c {
		q.exclusively = nil
	}
	if last = removed && len(q.engine.Consumers()) == 0; last {
		q.idleSince = time.Now()
		q.usedLocked()
	}
	return last
}

// Usable says why nobody can read from the queue, nil if one can.
func (q *Queue) Usable() *wire.Error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.usableLocked()
}

// usableLocked is Usable under the queue's lock.
func (q *Queue) usableLocked() *wire.Error {
	switch {
	case q.deleted:
		return q.vhost.noQueue(q.name)
	case q.damaged != nil:
		return wire.Errorf(wire.NotFound, "queue '%s' in vhost '%s' has crashed and failed to restart", q.name, q.vhost.name)
	}
	return nil
}

// Get asks for one message for c, whose sink gets it as a Delivery with Get
// set, at once or after it was read from disk, then perhaps on another
// goroutine. A Delivery with a Count of 0 says that there is none; the sink is
// Cancelled if the message cannot be read, which takes the queue out of service. An
// error is returned when the queue was just deleted or is out of service, and by a
// quorum queue with a single active consumer.
func (q *Queue) Get(c *queue.Consumer) *wire.Error {
	q.mu.Lock()
	defer q.unlock()
	if err := q.usableLocked(); err != nil {
		return err
	}
	if q.engine.Single == queue.GivesWay {
		return wire.Errorf(wire.ResourceLocked, "cannot obtain access to locked queue '%s' in vhost '%s'. "+
			"basic.get operations are not supported by quorum queues with single active consumer", q.name, q.vhost.name)
	}
	q.idleSince = time.Now()
	q.usedLocked()
	q.engine.Get(c)
	q.dispatchLocked()
	return nil
}

// ForgetGet withdraws a Get that was not answered.
func (q *Queue) ForgetGet(c *queue.Consumer) {
	q.mu.Lock()
	q.engine.ForgetGet(c)
	q.dispatchLocked() // its message may just have come back, refused
	q.unlock()
}

// Settle takes acknowledged (or, with rejected, discarded) messages of consumer
// c out of the queue; discarded ones go to the dead letter exchange if there is
// one.
func (q *Queue) Settle(c *queue.Consumer, numbers []uint64, rejected bool) {
	q.mu.Lock()
	q.settleLocked(&Settlement{Consumer: c, Numbers: numbers, Rejected: rejected})
	q.dispatchLocked()
	q.unlock()
}

// settleInto is Settle for a transaction: what the store has to know is appended
// to records instead of being proposed. The queue's later records wait for
// release: a mark states all that is settled of a run, so theirs would make the
// transaction's known before its proposal, and the proposal would take theirs
// back.
func (q *Queue) settleInto(records []persistence.Record, s *Settlement) (_ []persistence.Record, letters bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settleLocked(s)
	q.departLocked()
	q.collectLocked()
	records = append(records, q.records...)
	q.forgetRecordsLocked()
	loads := q.fx.Loads
	q.fx.Loads = nil
	q.fx.Reset()
	q.fx.Loads = loads
	q.holding = true
	q.dispatchLocked()
	return records, len(q.letters) > 0
}

// unlock releases the queue and forwards the letters that its holder has made.
func (q *Queue) unlock() {
	letters := len(q.letters) > 0
	q.mu.Unlock()
	if letters {
		q.vhost.hosts.forwarder.forward(q)
	}
}

// release lets go the records held back since settleInto: the transaction's own
// have been proposed.
func (q *Queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.holding = false
	q.proposeLocked()
}

func (q *Queue) settleLocked(s *Settlement) {
	if q.deleted {
		return
	}
	n := uint64(len(s.Numbers))
	var err error
	switch {
	case s.forwarded:
		err = q.engine.SettleLeaving(s.leaving, &q.fx)
		for i := range s.waiting {
			q.noteDepartureLocked(&s.waiting[i].departing)
		}
	case s.Rejected:
		q.stats.Rejected += n
		err = q.engine.Expel(s.Numbers, queue.Rejected, &q.fx)
	default:
		q.stats.Acknowledged += n
		err = q.engine.Settle(s.Numbers, &q.fx)
	}
	if err != nil {
		q.vhost.hosts.broken(q, err)
	}
	if !s.forwarded {
		q.engine.Credit(s.Consumer, uint32(n))
	}
}

// Return puts unacked messages of consumer c back to their places; failed says that
// their deliveries count as failures, of which a message may have only so many. It
// sorts numbers.
func (q *Queue) Return(c *queue.Consumer, numbers []uint64, failed bool) {
	if q.giveBack(c, numbers, failed) {
		q.vhost.hosts.forwarder.forward(q)
	}
}

// giveBack is Return without forwarding the letters that this may make; it reports
// whether there are any.
func (q *Queue) giveBack(c *queue.Consumer, numbers []uint64, failed bool) (letters bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deleted {
		return false
	}
	q.giveBackLocked(c, numbers, failed)
	q.dispatchLocked()
	return len(q.letters) > 0
}

// giveBackLocked is giveBack for a caller who dispatches afterwards.
func (q *Queue) giveBackLocked(c *queue.Consumer, numbers []uint64, failed bool) {
	q.stats.Requeued += uint64(len(numbers))
	within := len(numbers)
	s := q.settings.Load()
	waits := s.retry.delays(failed)
	if limit := s.deliveryLimit; limit != unset || waits || q.Quorum() {
		within = q.engine.Count(numbers, failed, limit, &q.fx)
	}
	if waits {
		q.holdBackLocked(numbers[:within], &s.retry)
	} else {
		q.engine.Return(numbers[:within])
	}
	if over := numbers[within:]; len(over) > 0 {
		if err := q.engine.Expel(over, queue.DeliveryLimit, &q.fx); err != nil {
			q.vhost.hosts.broken(q, err)
		}
	}
	q.engine.Credit(c, uint32(len(numbers)))
}

// Dispatch hands out what can be handed out: a sink calls it (through its
// channel, without locks) when it can take messages again after having refused.
func (q *Queue) Dispatch() {
	q.mu.Lock()
	q.dispatchLocked()
	q.unlock()
}

// purge settles all ready and delayed messages and says how many there were. What the store
// has to know of it is proposed when it returns. Of many runs that are not packed a few
// go at a time, so that nobody has to wait for all.
func (q *Queue) purge() (n uint64) {
	q.mu.Lock()
	first := q.engine.Ready() // what comes meanwhile does not keep it going
	q.mu.Unlock()
	for some := true; some && n < first; {
		n += q.purgeStep(func() (purged uint64) {
			purged, some = q.engine.PurgeRuns(purgeRuns, &q.fx)
			return purged
		})
	}
	return n + q.purgeStep(func() uint64 { return q.engine.Purge(&q.fx) })
}

// purgeRuns is how many runs are purged under one hold of a queue's lock.
const purgeRuns = 4096

// purgeStep carries out what step, called under the queue's lock, has settled.
func (q *Queue) purgeStep(step func() uint64) uint64 {
	tx := &q.vhost.hosts.tx // no transaction holds records back, see settleInto
	tx.Lock()
	defer tx.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	n := step()
	q.applyLocked()
	if q.bounds.set {
		q.stepLocked()
	}
	return n
}

// breakLocked takes the queue out of service: some of its messages cannot be
// read any more. Its consumers and those who wait for a Get, which it returns, are
// to be told.
func (q *Queue) breakLocked(err error) (consumers []*queue.Consumer) {
	if q.damaged != nil {
		return nil
	}
	q.damaged = err
	q.vhost.hosts.damaged.Add(1)
	q.vhost.hosts.log.Error("queue is out of service: its messages cannot be read",
		"vhost", q.vhost.name, "queue", q.name, "error", err)
	consumers = slices.Clone(q.engine.Consumers())
	for _, c := range consumers {
		q.engine.RemoveConsumer(c)
	}
	q.exclusively = nil
	return append(consumers, q.engine.TakeGets()...) // to say that there are none would be wrong
}

// dropRuns is how many runs of a deleted queue are dropped at a time. If there are more
// the janitor goes on with that; should he not come to it, the next start forgets them, as
// the queue is not declared.
const dropRuns = 4096

// appendDrops appends the records that drop the runs of a deleted queue.
func appendDrops(records []persistence.Record, runs []*queue.Run) []persistence.Record {
	for _, r := range runs {
		if share, ok := r.Stored.(*persistence.Share); ok && !r.Done() {
			records = append(records, persistence.Drop(share))
		}
	}
	return records
}

// removeLocked takes the queue out of service for good. It returns the ready
// messages lost and the consumers to be told. Called with VHost.mu held too.
func (q *Queue) removeLocked() (ready uint64, consumers []*queue.Consumer) {
	q.deleted = true
	q.vhost.hosts.timers.remove(&q.alarm)
	if q.damaged != nil {
		q.vhost.hosts.damaged.Add(-1)
	}
	consumers = slices.Clone(q.engine.Consumers())
	ready = q.engine.Ready()
	q.answerEmptyLocked(q.engine.TakeGets())
	left := q.engine.Lists()
	count := 0
	for _, runs := range left {
		count += len(runs)
	}
	if count > dropRuns {
		q.vhost.hosts.janitor.leave(left)
	} else {
		for _, runs := range left {
			q.records = appendDrops(q.records, runs)
		}
	}
	q.engine.Cold(func(first, end uint64) {
		q.records = append(q.records, persistence.Forget(q.id, first, end))
	})
	if q.durable {
		q.records = append(q.records, persistence.DropQueue(q.id))
	}
	q.scatterLocked()
	for i := range q.letters {
		q.letters[i].page.Release()
	}
	q.engine, q.dead, q.letters = queue.Engine{}, nil, nil
	q.timeouts = timeouts{}
	q.roomLocked()
	q.pagesChangedLocked()
	return ready, consumers
}
