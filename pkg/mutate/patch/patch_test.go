package patch_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/patch"
)

func TestCreate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ from, to, want string }{
		"equal":                         {`{"a":1}`, `{"a":1}`, ``},
		"null is not absent":            {`{"a":null}`, `{}`, `[{"op":"remove","path":"/a"}]`},
		"null becomes a list":           {`{"a":null}`, `{"a":[1]}`, `[{"op":"replace","path":"/a","value":[1]}]`},
		"added, sorted":                 {`{}`, `{"b":2,"a":1}`, `[{"op":"add","path":"/a","value":1},{"op":"add","path":"/b","value":2}]`},
		"a list that grew":              {`{"a":["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]}`, `{"a":["xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",1]}`, `[{"op":"add","path":"/a/-","value":1}]`},
		"a list in another order":       {`{"a":[1,2]}`, `{"a":[2,1]}`, `[{"op":"replace","path":"/a","value":[2,1]}]`},
		"a list prepended to":           {`{"a":[1]}`, `{"a":[0,1]}`, `[{"op":"replace","path":"/a","value":[0,1]}]`},
		"an element of another type":    {`{"a":[{}]}`, `{"a":["x"]}`, `[{"op":"replace","path":"/a","value":["x"]}]`},
		"escaped path":                  {`{"a":{"b/c":1,"~":0,"k":"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"}}`, `{"a":{"b/c":2,"~":0,"k":"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"}}`, `[{"op":"replace","path":"/a/b~1c","value":2}]`},
		"quotes and tabs in a path":     {`{}`, `{"a\"\t":"<&>"}`, `[{"op":"add","path":"/a\"\t","value":"<&>"}]`},
		"one replacement is shorter":    {`{"aaaaaaaaaaaaaaaaaaaaaaaa":{"b":1,"c":2}}`, `{"aaaaaaaaaaaaaaaaaaaaaaaa":{"d":1,"e":2}}`, `[{"op":"replace","path":"/aaaaaaaaaaaaaaaaaaaaaaaa","value":{"d":1,"e":2}}]`},
		"an integer above 2^53":         {`{"a":9007199254740993}`, `{"a":9007199254740992}`, `[{"op":"replace","path":"/a","value":9007199254740992}]`},
		"a number that no float holds":  {`{}`, `{"a":123456789012345678901234567890}`, `[{"op":"add","path":"/a","value":123456789012345678901234567890}]`},
		"a map that becomes a number":   {`{"a":{"b":1}}`, `{"a":1}`, `[{"op":"replace","path":"/a","value":1}]`},
		"an empty map is not an absent": {`{"a":{}}`, `{"a":{"b":1}}`, `[{"op":"replace","path":"/a","value":{"b":1}}]`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := string(create(t, []byte(test.from), []byte(test.to))); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			check(t, []byte(test.from), []byte(test.to))
		})
	}
}

func create(tb testing.TB, from, to []byte) []byte {
	tb.Helper()
	a, errA := leaf.Decode(from)
	b, errB := leaf.Decode(to)
	if errA != nil || errB != nil {
		tb.Fatal(errA, errB)
	}
	return patch.Marshal(patch.Create(a, b))
}

// check applies the patch with the library that the API server uses.
func check(tb testing.TB, from, to []byte) {
	tb.Helper()
	p := create(tb, from, to)
	if p == nil {
		return
	}
	decoded, err := jsonpatch.DecodePatch(p)
	if err != nil {
		tb.Fatalf("%v: %s", err, p)
	}
	got, err := decoded.Apply(from)
	if err != nil {
		tb.Fatalf("%v: from %s patch %s", err, from, p)
	}
	x, errX := leaf.Decode(got)
	y, errY := leaf.Decode(to)
	if errX != nil || errY != nil || !leaf.Equal(x, y) {
		tb.Fatalf("from %s\nto   %s\npatch %s\ngives %s", from, to, p, got)
	}
	if len(p) > len(from)+len(to)+64*(len(x)+2) {
		tb.Errorf("the patch has %d bytes, the object %d", len(p), len(to))
	}
}

// random makes a JSON value, and mutate changes one somewhere.
func random(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case n < 3 && depth > 0:
		m := map[string]any{}
		for range r.IntN(5) {
			m[[]string{"a", "b", "c/d", "e~f", "name", "g\"h"}[r.IntN(6)]] = random(r, depth-1)
		}
		return m
	case n < 5 && depth > 0:
		l := make([]any, r.IntN(5))
		for i := range l {
			l[i] = random(r, depth-1)
		}
		return l
	case n == 5:
		return nil
	case n == 6:
		return []any{true, "x", "", "ü\n\u2028"}[r.IntN(4)]
	}
	return []any{int64(r.IntN(3)), 1.5, int64(1)<<60 + int64(r.IntN(2))}[r.IntN(3)]
}

func change(r *rand.Rand, v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range x {
			switch r.IntN(5) {
			case 0:
			case 1:
				m[k] = change(r, e)
			default:
				m[k] = e
			}
		}
		return m
	case []any:
		l := append([]any{}, x...)
		switch r.IntN(6) {
		case 0:
			return append(l, random(r, 1))
		case 1:
			return append([]any{random(r, 1)}, l...)
		case 2:
			r.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
		case 3:
			if len(l) > 0 {
				return l[1:]
			}
		case 4:
			for i := range l {
				l[i] = change(r, l[i])
			}
		}
		return l
	}
	return random(r, 2)
}

func TestRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 3))
		from := map[string]any{"x": random(r, 4), "y": random(r, 2)}
		a, errA := json.Marshal(from)
		b, errB := json.Marshal(change(r, from))
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		check(t, a, b)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzCreate(f *testing.F) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 4))
		from := map[string]any{"x": random(r, 4)}
		a, _ := json.Marshal(from)
		b, _ := json.Marshal(change(r, from))
		f.Add(a, b)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		// The same object as anybody else reads it: one value for a key that stands twice.
		for _, raw := range []*[]byte{&a, &b} {
			m, err := leaf.Decode(*raw)
			if err != nil {
				return
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			*raw = text
		}
		check(t, a, b)
	})
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 5))
	from := map[string]any{"x": random(r, 5), "y": random(r, 5), "z": random(r, 5)}
	a, _ := json.Marshal(from)
	b, _ := json.Marshal(change(r, from))
	first := create(t, a, b)
	for i := range 20 {
		if again := create(t, a, b); !bytes.Equal(first, again) {
			t.Fatal(fmt.Sprint(i), string(first), string(again))
		}
	}
}
