// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"

	"github.com/spf13/cobra"
)

type backupOptions struct{ url, user, password string }

func backupCommand() *cobra.Command {
	var o backupOptions
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "Have the running broker back up its data",
		Long: "Asks the running broker, over its management API, to make a copy of its data directory in DIR\n" +
			"on the broker's machine, while clients go on. DIR is an absolute path and must be empty or not\n" +
			"exist. It is a data directory that a broker can be started on.",
		Example: "  lagomq ctl backup /var/backups/lagomq/monday",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			made, err := o.backup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d bytes, in %.1f s\n", made.Dir, plural(made.Files, "file"), made.Bytes, made.Seconds)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "url", "http://127.0.0.1:15672", "management API of the broker")
	f.StringVar(&o.user, "user", "guest", "user with the tag administrator")
	f.StringVar(&o.password, "password", "guest", "password of the user")
	return cmd
}

// backupMade is the broker's answer.
type backupMade struct {
	Dir     string  `json:"dir"`
	Bytes   int64   `json:"bytes"`
	Files   int     `json:"files"`
	Seconds float64 `json:"seconds"`
}

func (o *backupOptions) backup(ctx context.Context, dir string) (made backupMade, err error) {
	body, err := json.Marshal(map[string]string{"dir": dir})
	if err != nil {
		return made, fmt.Errorf("encode request: %w", err)
	}
	target, err := url.Parse(o.url)
	if err != nil || target.Host == "" {
		return made, fmt.Errorf("--url %q is not a URL like http://127.0.0.1:15672", o.url)
	}
	target.Path = path.Join("/", target.Path, "/api/lagomq/backup")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return made, fmt.Errorf("make request: %w", err)
	}
	request.SetBasicAuth(o.user, o.password)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if urlErr := (*url.Error)(nil); errors.As(err, &urlErr) {
			err = urlErr.Err
		}
		return made, fmt.Errorf("no broker answers at %s: %w; start it with its management API on (lagomq server --management-addr :15672), or name it with --url", o.url, err)
	}
	defer response.Body.Close()
	const most = 1 << 20
	answer, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return made, fmt.Errorf("read the broker's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return made, refusal(response, answer)
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return made, fmt.Errorf("the broker's answer is not understood: %w", err)
	}
	return made, nil
}

// refusal is the error that an answer of the management API tells of.
func refusal(response *http.Response, answer []byte) error {
	var told struct{ Reason string }
	switch err := json.Unmarshal(answer, &told); {
	case response.StatusCode == http.StatusUnauthorized:
		return errors.New("the broker refuses: --user and --password must be those of a user with the tag administrator")
	case response.StatusCode == http.StatusNotFound, response.StatusCode == http.StatusMethodNotAllowed:
		return fmt.Errorf("what answers at %s is no LagoMQ broker that makes backups", response.Request.URL.Host)
	case err != nil || told.Reason == "":
		return fmt.Errorf("the broker refuses: %s", response.Status)
	}
	return fmt.Errorf("the broker refuses: %s", told.Reason)
}
