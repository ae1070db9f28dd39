package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	kjson "sigs.k8s.io/json"
)

// parseJSON reads JSON values one after the other.
func parseJSON(file string, data []byte) ([]Document, error) {
	var docs []Document
	var errs []error
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	for number := 1; ; number++ {
		start := skipSpace(data, int(dec.InputOffset()))
		fail := func(offset int, reason string) {
			errs = append(errs, &SyntaxError{File: file, Number: number, Line: lineAt(data, offset), Reason: reason})
		}
		err := walkJSON(dec, func(key string) {
			fail(int(dec.InputOffset())-1, fmt.Sprintf("key %q is already set in this object", key))
		})
		if errors.Is(err, io.EOF) {
			break
		}
		end := int(dec.InputOffset())
		if err != nil {
			// Nothing tells where the next value begins.
			fail(end, "not JSON: "+jsonReason(err))
			break
		}
		text := data[start:end]
		// encoding/json would put replacement characters in the place of other bytes.
		if valid := len(bytes.ToValidUTF8(text, nil)); valid != len(text) {
			fail(start, "not JSON: it is not UTF-8")
			continue
		}
		if err := json.Unmarshal(text, new(json.RawMessage)); err != nil {
			fail(start+jsonOffset(err), "not JSON: "+jsonReason(err))
			continue
		}
		doc := Document{File: file, Number: number, Line: lineAt(data, start), Text: text, JSON: text, start: start, end: end}
		if reason := notAnObject(text); reason != "" {
			fail(start, reason)
		}
		docs = append(docs, doc)
	}
	return docs, errors.Join(errs...)
}

// walkJSON reads one value and reports every key that an object has twice: encoding/json would take the last one
// without a word. The error is io.EOF if there is no value any more.
func walkJSON(dec *json.Decoder, duplicate func(key string)) error {
	type level struct {
		keys map[string]bool // nil in a list
		key  bool            // the next token is a key
	}
	var stack []level
	for {
		token, err := dec.Token()
		if err != nil {
			if errors.Is(err, io.EOF) && len(stack) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if n := len(stack); n > 0 && stack[n-1].key {
			if key, ok := token.(string); ok {
				if stack[n-1].keys[key] {
					duplicate(key)
				}
				stack[n-1].keys[key], stack[n-1].key = true, false
				continue
			}
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, level{keys: map[string]bool{}, key: true})
			continue
		case json.Delim('['):
			stack = append(stack, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
		}
		if len(stack) == 0 {
			return nil
		}
		top := &stack[len(stack)-1]
		top.key = top.keys != nil
	}
}

func jsonReason(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends in the middle"
	}
	return err.Error()
}

func jsonOffset(err error) int {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return int(syntax.Offset)
	}
	return 0
}

func skipSpace(data []byte, from int) int {
	return len(data) - len(bytes.TrimLeft(data[from:], " \t\r\n"))
}

func lineAt(data []byte, offset int) int {
	return 1 + bytes.Count(data[:min(offset, len(data))], []byte("\n"))
}

// notAnObject tells why JSON is not what Kubernetes calls an object; "" if it is one.
func notAnObject(raw []byte) string {
	var head struct {
		APIVersion any `json:"apiVersion"`
		Kind       any `json:"kind"`
	}
	if err := decode(raw, &head); err != nil {
		return "not an object: a manifest is a mapping with apiVersion and kind"
	}
	for _, f := range []struct {
		name  string
		value any
	}{{"apiVersion", head.APIVersion}, {"kind", head.Kind}} {
		switch v := f.value.(type) {
		case nil:
			return f.name + " is missing"
		case string:
			if v == "" {
				return f.name + " is empty"
			}
		default:
			return f.name + " is not a string"
		}
	}
	if l, ok := asList(raw); ok {
		for i, item := range l.items {
			if reason := notAnObject(item); reason != "" {
				return fmt.Sprintf("items[%d]: %s", i, reason)
			}
		}
	}
	return ""
}

// decode reads JSON as the API server does: the case of names counts, and integers stay integers.
func decode(raw []byte, into any) error { return kjson.UnmarshalCaseSensitivePreserveInts(raw, into) }
