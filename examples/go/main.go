// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// This program publishes a message that survives a restart, and consumes it.
//
//	go run ./examples/go
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/rabbitmq/amqp091-go"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) (err error) {
	connection, err := amqp091.Dial(cmp.Or(os.Getenv("AMQP_URL"), "amqp://guest:guest@localhost:5672/"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	queue, err := channel.QueueDeclare("hello", true, false, false, false, nil)
	if err != nil {
		return err
	}

	if err := channel.Confirm(false); err != nil {
		return err
	}
	confirm, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", queue.Name, true, false,
		amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: []byte("Hello, LagoMQ")})
	if err != nil {
		return err
	}
	// The broker confirms when the message is on disk.
	if acked, err := confirm.WaitContext(ctx); err != nil || !acked {
		return errors.Join(errors.New("the message was not confirmed"), err)
	}

	messages, err := channel.ConsumeWithContext(ctx, queue.Name, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	message := <-messages
	fmt.Println(string(message.Body))
	return message.Ack(false)
}
