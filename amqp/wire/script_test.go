// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScript runs testdata/script. Input is hexadecimal, with any white space,
// and comments after a semicolon; output is what the codec makes of it.
//
//	frame [max=n]   frames until the input ends or one is refused
//	method          a method payload
//	table           the contents of a table
//	properties      property flags and a property list
//	header          the payload of a content header
//	reply-to to=s   properties with reply-to replaced
//	remove name=s   properties with a header removed
func TestScript(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			in := unhex(t, d.Input)
			switch d.Cmd {
			case "frame":
				limit := 0
				d.MaybeScanArgs(t, "max", &limit)
				return showFrames(in, limit)
			case "method":
				m, err := ParseMethod(in)
				if err != nil {
					return showError(err)
				}
				checkSame(t, in[4:], m.append(nil))
				return fmt.Sprintf("%v %#v\n", m.ID(), m)
			case "table":
				table, err := ParseTable(in)
				if err != nil {
					return showError(err)
				}
				checkSame(t, in, AppendTable(nil, table)[4:])
				return showTable(table, "")
			case "header":
				h, err := ParseHeader(in)
				if err != nil {
					return showError(err)
				}
				return fmt.Sprintf("class=%d weight=%d size=%d properties=% x\n", h.Class, h.Weight, h.BodySize, h.Properties)
			case "properties":
				return showProperties(t, in)
			case "reply-to":
				var to string
				d.ScanArgs(t, "to", &to)
				return showProperties(t, ReplaceReplyTo(nil, in, to))
			case "remove":
				var name string
				d.ScanArgs(t, "name", &name)
				return showProperties(t, RemoveHeader(nil, in, name))
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, ";")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkSame fails the test when encoding did not restore the input. L is
// written as l and every true as 1, so they are the same.
func checkSame(t reporter, in, out []byte) {
	t.Helper()
	if !sameFields(in, out) {
		t.Errorf("% x encodes as\n% x", in, out)
	}
}

func sameFields(in, out []byte) bool {
	if len(in) != len(out) {
		return false
	}
	for i, c := range in {
		if c != out[i] && !(c == tagInt64Alt && out[i] == tagInt64) && !(c > 1 && out[i] == 1) {
			return false
		}
	}
	return true
}

func showError(err *Error) string {
	scope := "channel"
	if err.Hard() {
		scope = "connection"
	}
	during := ""
	if err.Method != 0 {
		during = " during " + err.Method.String()
	}
	return fmt.Sprintf("%s error %d%s: %s\n", scope, err.Code, during, err)
}

func showFrames(in []byte, limit int) string {
	var out strings.Builder
	for {
		f, n, err := ParseFrame(in, limit)
		switch {
		case err != nil:
			return out.String() + showError(err)
		case n == 0:
			fmt.Fprintf(&out, "%d bytes of an incomplete frame\n", len(in))
			return out.String()
		}
		fmt.Fprintf(&out, "%d bytes: type=%d channel=%d payload=[% x]\n", n, f.Type, f.Channel, f.Payload)
		if in = in[n:]; len(in) == 0 {
			return out.String()
		}
	}
}

func showTable(table Table, indent string) string {
	var out strings.Builder
	for _, f := range table {
		fmt.Fprintf(&out, "%s%q: %s\n", indent, f.Name, showValue(f.Value, indent))
	}
	if len(table) == 0 {
		return indent + "empty\n"
	}
	return out.String()
}

func showValue(value any, indent string) string {
	switch v := value.(type) {
	case Table:
		return "table\n" + strings.TrimSuffix(showTable(v, indent+"  "), "\n")
	case Array:
		elements := make([]string, len(v))
		for i, e := range v {
			elements[i] = showValue(e, indent)
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case string, []byte:
		return fmt.Sprintf("%s %q", TagName(v), v)
	}
	return fmt.Sprintf("%s %v", TagName(value), value)
}

// showProperties prints the bytes and the present properties, after checking
// that decoding and scanning agree.
func showProperties(t *testing.T, raw []byte) string {
	t.Helper()
	p, err := ParseProperties(raw)
	v, scanErr := scanProperties(raw)
	if err != nil || scanErr != nil {
		if err == nil || scanErr == nil {
			t.Errorf("ParseProperties: %v, ScanProperties: %v", err, scanErr)
			return ""
		}
		return showError(err)
	}
	checkView(t, &p, &v)
	var out strings.Builder
	fmt.Fprintf(&out, "%x\n", raw)
	value := reflect.ValueOf(p)
	for i, field := range reflect.VisibleFields(value.Type()) {
		switch {
		case field.Name == "Flags" || !p.Has(1<<(15-i)):
		case field.Name == "Headers":
			fmt.Fprintf(&out, "Headers:\n%s", showTable(p.Headers, "  "))
		case field.Type.Kind() == reflect.String:
			fmt.Fprintf(&out, "%s: %q\n", field.Name, value.Field(i))
		default:
			fmt.Fprintf(&out, "%s: %v\n", field.Name, value.Field(i))
		}
	}
	return out.String()
}

// reporter is what *testing.T and *rapid.T have in common.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// checkView fails the test when the view differs from the decoded properties.
func checkView(t reporter, p *Properties, v *PropertyView) {
	t.Helper()
	headers, err := ParseTable(v.Headers)
	if err != nil || !headers.Equal(p.Headers) {
		t.Errorf("scanned headers are %v, %v, decoded are %v", headers, err, p.Headers)
	}
	scanned := Properties{
		Flags: v.Flags, DeliveryMode: v.DeliveryMode, Priority: v.Priority,
		CorrelationID: string(v.CorrelationID), ReplyTo: string(v.ReplyTo), Expiration: string(v.Expiration),
		MessageID: string(v.MessageID), UserID: string(v.UserID),
	}
	decoded := Properties{
		Flags: p.Flags, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
		CorrelationID: p.CorrelationID, ReplyTo: p.ReplyTo, Expiration: p.Expiration,
		MessageID: p.MessageID, UserID: p.UserID,
	}
	if !reflect.DeepEqual(scanned, decoded) {
		t.Errorf("scanned %+v, decoded %+v", scanned, decoded)
	}
}

// scanProperties is PropertyView.Scan as a function.
func scanProperties(raw []byte) (v PropertyView, err *Error) {
	err = v.Scan(raw)
	return v, err
}
