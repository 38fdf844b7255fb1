// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/xml"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// specification is the part of the protocol's XML that defines the codec.
type specification struct {
	Constants []struct {
		Name  string `xml:"name,attr"`
		Value int    `xml:"value,attr"`
		Class string `xml:"class,attr"`
	} `xml:"constant"`
	Domains []struct {
		Name string `xml:"name,attr"`
		Type string `xml:"type,attr"`
	} `xml:"domain"`
	Classes []struct {
		Name    string      `xml:"name,attr"`
		Index   uint16      `xml:"index,attr"`
		Fields  []specField `xml:"field"`
		Methods []struct {
			Name    string      `xml:"name,attr"`
			Index   uint16      `xml:"index,attr"`
			Content bool        `xml:"content,attr"`
			Fields  []specField `xml:"field"`
			Chassis []struct {
				Name string `xml:"name,attr"`
			} `xml:"chassis"`
		} `xml:"method"`
	} `xml:"class"`
}

type specField struct {
	Name     string `xml:"name,attr"`
	Domain   string `xml:"domain,attr"`
	Type     string `xml:"type,attr"`
	Reserved bool   `xml:"reserved,attr"`
}

func loadSpecification(t *testing.T) *specification {
	t.Helper()
	text, err := os.ReadFile("testdata/amqp0-9-1.extended.xml")
	if err != nil {
		t.Fatal(err)
	}
	spec := new(specification)
	if err := xml.Unmarshal(text, spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// elementary resolves the domain of a field to an elementary type.
func (s *specification) elementary(f specField) string {
	if f.Type != "" {
		return f.Type
	}
	for _, d := range s.Domains {
		if d.Name == f.Domain {
			return d.Type
		}
	}
	return "undefined domain " + f.Domain
}

// notInSpecification are the methods of RabbitMQ 4.3 that the XML leaves out.
var notInSpecification = map[MethodID]bool{
	IDConnectionBlocked: true, IDConnectionUnblocked: true,
	IDConnectionUpdateSecret: true, IDConnectionUpdateSecretOk: true,
	IDAccessRequest: true, IDAccessRequestOk: true,
}

// everyMethod returns all method ids that the package knows.
func everyMethod() []MethodID {
	var ids []MethodID
	for class := range MethodID(128) {
		for method := range MethodID(256) {
			if id := class<<16 | method; newMethod(id) != nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func TestSpecificationConstants(t *testing.T) {
	t.Parallel()
	frame := map[string]int{
		"frame-method": FrameMethod, "frame-header": FrameHeader, "frame-body": FrameBody,
		"frame-heartbeat": FrameHeartbeat, "frame-end": FrameEnd,
		"frame-min-size": FrameMinSize / 2, // RabbitMQ 4.3 raised it
	}
	for _, c := range loadSpecification(t).Constants {
		if want, ok := frame[c.Name]; ok {
			if c.Value != want {
				t.Errorf("%s = %d, want %d", c.Name, want, c.Value)
			}
			continue
		}
		code := ReplyCode(c.Value)
		if want := strings.ToUpper(strings.ReplaceAll(c.Name, "-", "_")); code.Name() != want {
			t.Errorf("ReplyCode(%d).Name() = %q, want %q", code, code.Name(), want)
		}
		if want := c.Class == "hard-error"; code.Hard() != want {
			t.Errorf("ReplyCode(%d).Hard() = %t, want %t", code, code.Hard(), want)
		}
	}
}

func TestSpecificationProperties(t *testing.T) {
	t.Parallel()
	flags := map[string]uint16{
		"content-type": FlagContentType, "content-encoding": FlagContentEncoding, "headers": FlagHeaders,
		"delivery-mode": FlagDeliveryMode, "priority": FlagPriority, "correlation-id": FlagCorrelationID,
		"reply-to": FlagReplyTo, "expiration": FlagExpiration, "message-id": FlagMessageID,
		"timestamp": FlagTimestamp, "type": FlagType, "user-id": FlagUserID, "app-id": FlagAppID,
		"reserved": FlagClusterID, // the name RabbitMQ gives it
	}
	sizes := map[string]int{"shortstr": 1, "octet": 1, "table": 4, "timestamp": 8} // of a zero value
	spec := loadSpecification(t)
	for _, class := range spec.Classes {
		if class.Name != "basic" {
			continue
		}
		if class.Index != ClassBasic || len(class.Fields) != len(flags) {
			t.Errorf("class basic is %d with %d properties, want %d with %d", class.Index, len(class.Fields), ClassBasic, len(flags))
		}
		for i, f := range class.Fields {
			if want := uint16(1) << (15 - i); flags[f.Name] != want {
				t.Errorf("flag of %s = %#x, want %#x", f.Name, flags[f.Name], want)
			}
			size, ok := propertySize(flags[f.Name], make([]byte, 16))
			if want := sizes[spec.elementary(f)]; !ok || size != want {
				t.Errorf("an empty %s takes %d bytes, want %d", f.Name, size, want)
			}
		}
	}
}

func TestSpecificationMethods(t *testing.T) {
	t.Parallel()
	spec := loadSpecification(t)
	seen := make(map[MethodID]bool)
	for _, class := range spec.Classes {
		for _, method := range class.Methods {
			id := MethodID(class.Index)<<16 | MethodID(method.Index)
			seen[id] = true
			name := class.Name + "." + method.Name
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m := newMethod(id)
				if m == nil || m.ID() != id || id.String() != name || id.Class() != class.Index || id.Method() != method.Index {
					t.Fatalf("newMethod(%d.%d) = %T named %v", class.Index, method.Index, m, id)
				}
				if id.HasContent() != method.Content {
					t.Errorf("HasContent() = %t, want %t", id.HasContent(), method.Content)
				}
				received := false
				for _, c := range method.Chassis {
					received = received || c.Name == "server"
				}
				if FromClient(id) != received {
					t.Errorf("FromClient() = %t, want %t", FromClient(id), received)
				}
				// Any two bits of an octet differ in one of these.
				for _, set := range []byte{0b01010101, 0b00110011, 0b00001111} {
					spec.checkLayout(t, newMethod(id), method.Fields, set)
				}
			})
		}
	}
	for _, id := range everyMethod() {
		if seen[id] == notInSpecification[id] {
			t.Errorf("%v: in the specification: %t, listed as an addition: %t", id, seen[id], notInSpecification[id])
		}
	}
}

// checkLayout sets every field of m to a value of its own, encodes m as the
// specification says, and compares with what the codec does. Of a run of bits
// those of the octet set are true.
func (s *specification) checkLayout(t *testing.T, m Method, fields []specField, set byte) {
	t.Helper()
	value := reflect.ValueOf(m).Elem()
	var want []byte
	bits := 0 // bits in the last octet of want; 0 when it is not one of bits
	used := 0
	for i, f := range fields {
		kind := s.elementary(f)
		if kind != "bit" {
			bits = 0
		}
		var to reflect.Value
		if !f.Reserved {
			to = value.FieldByNameFunc(func(name string) bool {
				return strings.EqualFold(name, strings.ReplaceAll(f.Name, "-", ""))
			})
			if !to.IsValid() {
				t.Fatalf("%T has no field for %s", m, f.Name)
			}
			used++
		}
		n := byte(i + 1)
		if f.Reserved {
			n = 0
		}
		switch kind {
		case "bit":
			if bits == 0 {
				want = append(want, 0)
			}
			if !f.Reserved && set>>bits&1 != 0 {
				want[len(want)-1] |= 1 << bits
				to.SetBool(true)
			}
			bits++
		case "octet":
			want = append(want, n)
		case "short":
			want = append(want, 0, n)
		case "long":
			want = append(want, 0, 0, 0, n)
		case "longlong":
			want = append(want, 0, 0, 0, 0, 0, 0, 0, n)
		case "shortstr":
			if f.Reserved {
				want = append(want, 0)
				break
			}
			want = append(want, 2, 's', '0'+n)
			to.SetString(fmt.Sprintf("s%d", n))
		case "longstr":
			if f.Reserved {
				want = append(want, 0, 0, 0, 0)
				break
			}
			want = append(want, 0, 0, 0, 2, 'l', '0'+n)
			to.SetString(fmt.Sprintf("l%d", n))
		case "table":
			want = append(want, 0, 0, 0, 4, 1, 'k', 'B', n)
			to.Set(reflect.ValueOf(Table{{Name: "k", Value: n}}))
		default:
			t.Fatalf("%s has type %s", f.Name, kind)
		}
		if !f.Reserved && to.CanUint() {
			to.SetUint(uint64(n))
		}
	}
	if used != value.NumField() {
		t.Errorf("%T has %d fields, want %d", m, value.NumField(), used)
	}
	if got := m.append(nil); string(got) != string(want) {
		t.Errorf("%+v encodes as\n% x, want\n% x", m, got, want)
	}
	payload := append([]byte{byte(m.ID() >> 24), byte(m.ID() >> 16), byte(m.ID() >> 8), byte(m.ID())}, want...)
	got, err := ParseMethod(payload)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("ParseMethod(% x) = %+v, %v, want %+v", payload, got, err, m)
	}
}
