// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"slices"
	"sync"
)

// User is somebody who may log in.
type User struct {
	Name     string
	Password string
	// Tags are RabbitMQ's: administrator may use the management API, impersonator
	// may publish with another user's id.
	Tags []string
	// LoopbackOnly refuses logins from other machines.
	LoopbackOnly bool
}

// Has reports whether the user carries the tag.
func (u *User) Has(tag string) bool { return slices.Contains(u.Tags, tag) }

// Users are the broker's users. Safe for concurrent use.
type Users struct {
	mu     sync.RWMutex
	byName map[string]account
}

type account struct {
	user   User // Password emptied
	digest [sha256.Size]byte
}

// NewUsers makes the set of users.
func NewUsers(users ...User) *Users {
	u := &Users{byName: make(map[string]account, len(users))}
	for _, user := range users {
		digest := sha256.Sum256([]byte(user.Password))
		user.Password = ""
		u.byName[user.Name] = account{user, digest}
	}
	return u
}

// Authenticate checks name and password of somebody who connects from the
// address remote (nil when the address is not an IP address). The error says
// for the log why the login is refused; clients are not told.
func (u *Users) Authenticate(name, password string, remote net.IP) (*User, error) {
	u.mu.RLock()
	found, ok := u.byName[name]
	u.mu.RUnlock()
	// The comparison runs for unknown names too, so that its time tells nothing.
	digest := sha256.Sum256([]byte(password))
	same := subtle.ConstantTimeCompare(digest[:], found.digest[:]) == 1
	switch {
	case !ok || !same:
		return nil, fmt.Errorf("user '%s' - invalid credentials", name)
	case found.user.LoopbackOnly && remote != nil && !remote.IsLoopback():
		return nil, fmt.Errorf("user '%s' can only connect via localhost", name)
	}
	return &found.user, nil
}
