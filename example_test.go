// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package lagomq_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
)

// A broker inside a program: started on a free port with nothing on disk, used by
// an ordinary RabbitMQ client, and shut down.
func Example() {
	ctx := context.Background()
	broker, err := lagomq.New(lagomq.Options{InMemory: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	if err := broker.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer func() {
		if err := broker.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}()

	connection, err := amqp091.Dial(broker.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		log.Fatal(err)
	}
	queue, err := channel.QueueDeclare("hello", true, false, false, false, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := channel.Confirm(false); err != nil {
		log.Fatal(err)
	}
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", queue.Name, false, false,
		amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: []byte("Hello, LagoMQ")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("confirmed:", confirmation.Wait())

	message, ok, err := channel.Get(queue.Name, true)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ok, string(message.Body))
	// Output:
	// confirmed: true
	// true Hello, LagoMQ
}
