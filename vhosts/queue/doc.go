// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package queue is the queue engine: what a queue holds, who gets which message
// next, and what becomes of it. It is a plain value without locks, goroutines,
// clocks or I/O, so that every rule of a queue can be tested as a script.
//
// The engine thinks in message numbers. Each message gets the next number of
// its queue, and is at any time in one of these states:
//
//	ready    never handed out (its run's sent offset is at or below it), or
//	         returned (its number is in the set returned)
//	unacked  handed out and neither settled nor returned
//	leaving  expelled, and on its way to where it goes (Expel, Wait)
//	delayed  given back, not to be handed out before a time (Delay)
//	settled  gone; its bit in its run's settled bitmap is set
//
// A queue that orders by priority has several levels, each with numbers of its own;
// the level is a number's highest byte (see Level). The highest level with ready
// messages is served first. What follows holds for each level.
//
// Messages are kept as runs (see Run), whose bytes may be on disk. Handing out
// goes by number, lowest first: returned messages all lie below the cursor, so
// they come first and every message keeps its original place.
//
// A long queue costs little memory, and what it costs does not depend on how its
// messages came:
//
//	window  pages beyond a limit are dropped, those of the queue's head last, and
//	        loaded before the cursor gets there; what is in memory only is stored
//	        first if memory is short (Trim, Spilled, Loaded)
//	cold    runs that were never handed out are packed into a few bytes each, and
//	        come back before the cursor gets there (Keeper)
//	merge   small neighbours are joined (Scattered, Gather)
//	thin    what is left of a run nearly all of which is settled is written anew
//	        (Thin, Replace)
//
// None of these changes what consumers see, nor the number of any message.
//
// Inputs are plain method calls: Restore, Append, Settle, Return, Purge,
// AddConsumer, RemoveConsumer, Get, Loaded and those named above. Each may be
// followed by Dispatch, and what has to happen outside comes back as Effects:
// deliveries as ranges of a run, settled and forgotten runs for the store, pages to
// store and to load. The shell (package
// vhosts) calls the engine under the queue's lock and carries the effects out.
package queue
