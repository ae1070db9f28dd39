package leaf

import (
	"encoding/json"
	"fmt"
	"strconv"
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
