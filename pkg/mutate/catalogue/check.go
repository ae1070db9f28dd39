package catalogue

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Unknown tells that a version has no such key.
type Unknown struct {
	Name string
	// Nearest is the key that was probably meant; "" when nothing is near.
	Nearest string
}

func (e *Unknown) Error() string {
	if e.Nearest == "" {
		return e.Name + " is not a known key"
	}
	return e.Name + " is not a known key; did you mean " + e.Nearest + "?"
}

// BadValue tells that a key does not take a value.
type BadValue struct {
	Name string
	// Value as it was written; empty for a sensitive key.
	Value string
	// Type in words that follow "is not a": whole number, boolean, class name.
	Type string
	// Allowed tells what would do; "" when the type says it all.
	Allowed string
	// Example is a value that would do; "" when there is none worth showing.
	Example string
}

func (e *BadValue) Error() string {
	text := fmt.Sprintf("%s: %q is not a %s it takes", e.Name, e.Value, e.Type)
	if e.Allowed != "" {
		text += "; allowed: " + e.Allowed
	}
	return text
}

// Check judges one line of configuration, and returns nil, an *Unknown or a *BadValue.
//
// It reads values as the product does: Kafka's ConfigDef.parseType trims them, takes true and false in any case, and
// splits lists at commas. A Kafka value with a reference to a config provider, ${…}, is known to the broker only, and
// passes. What the product checks beyond a single key (two that contradict each other, a class that is not there) is
// not judged.
func (c *Catalogue) Check(name, value string) error {
	if c == nil {
		return nil
	}
	key, ok := c.Lookup(name)
	if !ok {
		return &Unknown{Name: name, Nearest: c.Nearest(name)}
	}
	if c.Product == kafka && strings.Contains(value, "${") {
		return nil
	}
	if key.takes(strings.TrimSpace(value)) {
		return nil
	}
	if key.Sensitive {
		value = ""
	}
	return &BadValue{Name: name, Value: value, Type: key.word(), Allowed: key.allowed(), Example: key.example()}
}

// javaFloat is a number as Java also writes it, with its type behind it.
var javaFloat = regexp.MustCompile(`^([-+]?[0-9.eE+-]+)[dDfF]$`)

var className = regexp.MustCompile(`^[\pL_$][\pL\pN_$]*(\.[\pL_$][\pL\pN_$]*)*$`)

func (k Key) takes(value string) bool {
	if value == "" && k.NonEmpty {
		return false
	}
	switch k.Type {
	case "BOOLEAN":
		return strings.EqualFold(value, "true") || strings.EqualFold(value, "false")
	case "SHORT":
		return k.takesWhole(value, 16)
	case "INT":
		return k.takesWhole(value, 32)
	case "LONG":
		return k.takesWhole(value, 64)
	case "DOUBLE":
		n, err := strconv.ParseFloat(javaFloat.ReplaceAllString(value, "$1"), 64)
		return err == nil && !math.IsNaN(n) && k.inRange(n)
	case "CLASS":
		return className.MatchString(value)
	case "LIST":
		return value == "" || k.takesAll(strings.Split(value, ","))
	}
	return k.isValid(value)
}

func (k Key) takesAll(elements []string) bool {
	seen := map[string]bool{}
	for _, element := range elements {
		element = strings.TrimSpace(element)
		if !k.isValid(element) || k.Unique && (element == "" || seen[element]) {
			return false
		}
		seen[element] = true
	}
	return true
}

func (k Key) takesWhole(value string, bits int) bool {
	n, err := strconv.ParseInt(value, 10, bits)
	return err == nil && k.inRange(float64(n)) && k.isValid(strconv.FormatInt(n, 10))
}

func (k Key) inRange(n float64) bool {
	return (k.Min == nil || n >= *k.Min) && (k.Max == nil || n <= *k.Max)
}

func (k Key) isValid(value string) bool {
	return len(k.Valid) == 0 || slices.ContainsFunc(k.Valid, func(v string) bool {
		return v == value || k.AnyCase && strings.EqualFold(v, value)
	})
}

// word is the type as people say it.
func (k Key) word() string {
	switch k.Type {
	case "BOOLEAN":
		return "boolean"
	case "SHORT", "INT", "LONG":
		return "whole number"
	case "DOUBLE":
		return "number"
	case "CLASS":
		return "class name"
	case "LIST":
		return "list"
	}
	return "value"
}

func (k Key) allowed() string {
	switch {
	case k.Type == "BOOLEAN":
		return "true or false"
	case len(k.Valid) > 0:
		words := make([]string, len(k.Valid))
		for i, v := range k.Valid {
			if words[i] = v; v == "" {
				words[i] = "nothing"
			}
		}
		if k.Unique {
			return strings.Join(words, ", ") + "; none of them twice"
		}
		return strings.Join(words, ", ")
	case k.Type == "SHORT" || k.Type == "INT" || k.Type == "LONG" || k.Type == "DOUBLE":
		return k.bounds()
	case k.Unique && k.NonEmpty:
		return "at least one element, none empty and none twice"
	case k.Unique:
		return "elements that are not empty, none of them twice"
	case k.NonEmpty:
		return "anything but nothing"
	}
	return ""
}

// bounds are those of the key, or else those of its type.
func (k Key) bounds() string {
	low, high := k.Min, k.Max
	if bits, ok := map[string]int{"SHORT": 15, "INT": 31}[k.Type]; ok {
		least, most := -math.Exp2(float64(bits)), math.Exp2(float64(bits))-1
		if low == nil {
			low = &least
		}
		if high == nil {
			high = &most
		}
	}
	switch {
	case low != nil && high != nil:
		return number(*low) + " to " + number(*high)
	case low != nil:
		return number(*low) + " or more"
	case high != nil:
		return number(*high) + " or less"
	}
	return ""
}

func (k Key) example() string {
	switch {
	case k.Sensitive:
		return ""
	case k.Default != nil && k.takes(*k.Default) && *k.Default != "":
		return *k.Default
	case len(k.Valid) > 0:
		return k.Valid[len(k.Valid)-1]
	case k.Min != nil && *k.Min > 0:
		return number(*k.Min)
	}
	return map[string]string{"BOOLEAN": "true", "INT": "1", "LONG": "1", "SHORT": "1", "DOUBLE": "0.5", "CLASS": "org.example.Name"}[k.Type]
}

func number(n float64) string {
	return strconv.FormatFloat(n, 'f', -1, 64)
}
