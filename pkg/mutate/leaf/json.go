package leaf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	sigsjson "sigs.k8s.io/json"
)

// AppendJSON appends the JSON text of a raw JSON value: keys sorted, no spaces, no escapes but those that JSON demands.
// It takes what Decode makes, and nothing else; encoding/json does the same through reflection in four times the time.
func AppendJSON(b []byte, v any) []byte {
	switch x := v.(type) {
	case nil:
		return append(b, "null"...)
	case string:
		return appendString(b, x)
	case bool:
		return strconv.AppendBool(b, x)
	case int64:
		return strconv.AppendInt(b, x, 10)
	case map[string]any:
		b = append(b, '{')
		var few [16]string
		for i, k := range sortInto(few[:0], x) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k), ':')
			b = AppendJSON(b, x[k])
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, e := range x {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendJSON(b, e)
		}
		return append(b, ']')
	case float64, json.Number:
		raw, err := json.Marshal(x)
		if err != nil {
			panic(err) // neither NaN nor infinity comes from JSON
		}
		return append(b, raw...)
	}
	panic(fmt.Sprintf("%T is no raw JSON value", v))
}

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := byte(' '); c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

const hex = "0123456789abcdef"

// appendString escapes what JSON demands. Bytes that are no UTF-8 are left to encoding/json, which replaces them.
func appendString(b []byte, s string) []byte {
	start := len(b)
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain[c] {
			continue
		}
		if c >= 0x80 {
			raw, err := json.Marshal(s)
			if err != nil {
				panic(err)
			}
			return append(b[:start], raw...)
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, s[from:]...), '"')
}

// Decode reads a JSON object without losing a number: integers stay integers, and a number that neither int64 nor
// float64 holds exactly keeps its text.
func Decode(raw []byte) (map[string]any, error) {
	var v map[string]any
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts(raw, &v); err != nil {
		return nil, err
	}
	if v == nil {
		return nil, errors.New("null instead of an object")
	}
	if !fractions(v) {
		return v, nil
	}
	// What is no int64 may not be a float64 either.
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v = nil
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	numbers(v)
	return v, nil
}

// fractions tells whether there is a number that is not an int64.
func fractions(v any) bool {
	switch x := v.(type) {
	case map[string]any:
		for _, e := range x {
			if fractions(e) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(x, fractions)
	case float64:
		return true
	}
	return false
}

func numbers(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			switch e.(type) {
			case map[string]any, []any:
				numbers(e)
			case json.Number:
				x[k] = numbers(e)
			}
		}
	case []any:
		for i, e := range x {
			x[i] = numbers(e)
		}
	case json.Number:
		if i, err := strconv.ParseInt(string(x), 10, 64); err == nil && string(x) != "-0" {
			return i
		}
		f, err := strconv.ParseFloat(string(x), 64)
		if err == nil {
			if text, err := json.Marshal(f); err == nil && string(text) == string(x) {
				return f
			}
		}
		return x
	}
	return v
}
