// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

// rate is how much a number changes per second, averaged over the time between
// the newest two samples.
type rate struct {
	Rate float64 `json:"rate"`
}

// messageStats counts messages, with rates per second.
type messageStats struct {
	Publish             uint64 `json:"publish"`
	PublishDetails      rate   `json:"publish_details"`
	DeliverGet          uint64 `json:"deliver_get"` // the following four together
	DeliverGetDetails   rate   `json:"deliver_get_details"`
	Deliver             uint64 `json:"deliver"`
	DeliverDetails      rate   `json:"deliver_details"`
	DeliverNoAck        uint64 `json:"deliver_no_ack"`
	DeliverNoAckDetails rate   `json:"deliver_no_ack_details"`
	Get                 uint64 `json:"get"`
	GetDetails          rate   `json:"get_details"`
	GetNoAck            uint64 `json:"get_no_ack"`
	GetNoAckDetails     rate   `json:"get_no_ack_details"`
	GetEmpty            uint64 `json:"get_empty"`
	GetEmptyDetails     rate   `json:"get_empty_details"`
	Redeliver           uint64 `json:"redeliver"`
	RedeliverDetails    rate   `json:"redeliver_details"`
	Ack                 uint64 `json:"ack"`
	AckDetails          rate   `json:"ack_details"`
}

func newMessageStats(c *counts, r perSecond) messageStats {
	return messageStats{
		c[published], rate{r[published]},
		c[delivered] + c[deliveredNoAck] + c[got] + c[gotNoAck],
		rate{r[delivered] + r[deliveredNoAck] + r[got] + r[gotNoAck]},
		c[delivered], rate{r[delivered]},
		c[deliveredNoAck], rate{r[deliveredNoAck]},
		c[got], rate{r[got]},
		c[gotNoAck], rate{r[gotNoAck]},
		c[gotEmpty], rate{r[gotEmpty]},
		c[redelivered], rate{r[redelivered]},
		c[acknowledged], rate{r[acknowledged]},
	}
}

// channelMessageStats adds what only publishers' side counts.
type channelMessageStats struct {
	messageStats
	Confirm                 uint64 `json:"confirm"`
	ConfirmDetails          rate   `json:"confirm_details"`
	ReturnUnroutable        uint64 `json:"return_unroutable"`
	ReturnUnroutableDetails rate   `json:"return_unroutable_details"`
}

func newChannelMessageStats(c *counts, r perSecond) channelMessageStats {
	return channelMessageStats{
		newMessageStats(c, r),
		c[confirmed], rate{r[confirmed]},
		c[returned], rate{r[returned]},
	}
}

// depth is how many messages there are.
type depth struct {
	Messages                      uint64 `json:"messages"` // ready, unacknowledged and delayed
	MessagesDetails               rate   `json:"messages_details"`
	MessagesReady                 uint64 `json:"messages_ready"`
	MessagesReadyDetails          rate   `json:"messages_ready_details"`
	MessagesUnacknowledged        uint64 `json:"messages_unacknowledged"`
	MessagesUnacknowledgedDetails rate   `json:"messages_unacknowledged_details"`
	MessagesDelayed               uint64 `json:"messages_delayed"` // by a delayed retry
	MessagesDelayedDetails        rate   `json:"messages_delayed_details"`
}

func newDepth(c *counts, r perSecond) depth {
	return depth{
		c[messagesReady] + c[messagesUnacked] + c[messagesDelayed], rate{r[messagesReady] + r[messagesUnacked] + r[messagesDelayed]},
		c[messagesReady], rate{r[messagesReady]},
		c[messagesUnacked], rate{r[messagesUnacked]},
		c[messagesDelayed], rate{r[messagesDelayed]},
	}
}
