package settings

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Sizes in bytes.
const (
	mi = int64(1) << 20
	gi = int64(1) << 30
	ti = int64(1) << 40
	pi = int64(1) << 50
)

var errEmpty = errors.New("is empty")

// badUnits are spellings of a unit that people use and Kubernetes does not.
var badUnits = regexp.MustCompile(`^([0-9.]+)\s*([kKmMgGtTpP])(i?)[bB]$`)

// parseBytes reads a Kubernetes quantity of bytes between limits.
func parseBytes(low, high int64) func(string) (resource.Quantity, error) {
	return func(text string) (resource.Quantity, error) {
		var none resource.Quantity
		if text == "" {
			return none, errEmpty
		}
		if m := badUnits.FindStringSubmatch(text); m != nil {
			unit := strings.ToUpper(m[2])
			return none, fmt.Errorf("the unit is not one of Kubernetes; did you mean %s%si", m[1], unit)
		}
		if len(text) > 32 {
			return none, errors.New("is too long for a size")
		}
		q, err := resource.ParseQuantity(text)
		if err != nil {
			return none, errors.New("is not a size")
		}
		switch {
		case q.Sign() < 0:
			return none, errors.New("is negative")
		case q.Sign() > 0 && strings.HasSuffix(text, "m"):
			return none, fmt.Errorf("counts thousandths of a byte; did you mean %sMi", strings.TrimSuffix(text, "m"))
		case q.CmpInt64(low) < 0:
			return none, fmt.Errorf("is less than %s", bytesOf(low).String())
		case q.CmpInt64(high) > 0:
			return none, fmt.Errorf("is more than %s", bytesOf(high).String())
		}
		// Sizes are whole bytes.
		if v := q.Value(); q.CmpInt64(v) != 0 {
			return none, errors.New("is not a whole number of bytes")
		}
		_ = q.String() // fixes the canonical form, so that equal values are equal
		return q, nil
	}
}

func bytesOf(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }

func formatQuantity(q resource.Quantity) string {
	if q.IsZero() {
		return ""
	}
	return q.String()
}

var flag = regexp.MustCompile(`^-X(mx|ms)([0-9]+)([kKmMgGtT]?)$`)

// parseHeap reads a quantity, or the JVM flags that people paste: -Xmx1024m -Xms1024m.
func parseHeap(text string) (resource.Quantity, error) {
	const low, high = 64 * mi, 1 * ti
	if !strings.HasPrefix(text, "-X") {
		if len(text) > 1 && text[0] == '-' && (text[1] < '0' || text[1] > '9') {
			return resource.Quantity{}, errors.New("only -Xmx and -Xms are the heap's; other JVM flags go into the container's env")
		}
		// The JVM's own spelling of 1024 MiB would be thousandths of a byte to Kubernetes; here it can only mean one thing.
		if m := flag.FindStringSubmatch("-Xmx" + text); m != nil && (m[3] == "m" || m[3] == "g") {
			text = bytesOfUnit(m[2], m[3])
		}
		return parseBytes(low, high)(text)
	}
	sizes := map[string]int64{}
	for _, f := range strings.Fields(text) {
		m := flag.FindStringSubmatch(f)
		if m == nil {
			return resource.Quantity{}, fmt.Errorf("%s is not a heap flag; only -Xmx and -Xms belong here", setting.Quote(f))
		}
		if _, twice := sizes[m[1]]; twice {
			return resource.Quantity{}, fmt.Errorf("-X%s stands twice", m[1])
		}
		n, err := resource.ParseQuantity(bytesOfUnit(m[2], m[3]))
		if err != nil || n.CmpInt64(high) > 0 {
			return resource.Quantity{}, fmt.Errorf("%s is more than 1Ti", setting.Quote(f))
		}
		sizes[m[1]] = n.Value()
	}
	heap, ok := sizes["mx"]
	if !ok {
		return resource.Quantity{}, errors.New("-Xmx is missing")
	}
	if start, ok := sizes["ms"]; ok && start > heap {
		return resource.Quantity{}, errors.New("-Xms is larger than -Xmx")
	}
	return parseBytes(low, high)(bytesOf(heap).String())
}

// bytesOfUnit turns a JVM size (binary units, one letter) into Kubernetes' spelling.
func bytesOfUnit(number, unit string) string {
	switch unit = strings.ToUpper(unit); unit {
	case "":
		return number
	case "K":
		return number + "Ki"
	}
	return number + unit + "i"
}

// parseCPU reads a Kubernetes quantity of cores.
func parseCPU(text string) (resource.Quantity, error) {
	if text == "" {
		return resource.Quantity{}, errEmpty
	}
	if len(text) > 32 {
		return resource.Quantity{}, errors.New("is too long for a number of cores")
	}
	q, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
		return resource.Quantity{}, errors.New("is not a number of cores")
	case q.Sign() < 0:
		return resource.Quantity{}, errors.New("is negative")
	case q.CmpInt64(1024) > 0:
		return resource.Quantity{}, errors.New("is more than 1024 cores; thousandths are written 500m")
	case q.MilliValue() < 10 || q.Cmp(*resource.NewMilliQuantity(q.MilliValue(), resource.DecimalSI)) != 0:
		return resource.Quantity{}, errors.New("is less than 10m, or not a whole number of thousandths")
	}
	_ = q.String()
	return q, nil
}

// parseInt reads a whole number between limits.
func parseInt(low, high int) func(string) (int, error) {
	return func(text string) (int, error) {
		if text == "" {
			return 0, errEmpty
		}
		n, err := strconv.Atoi(text)
		if err != nil || strconv.Itoa(n) != text {
			return 0, errors.New("is not a whole number")
		}
		if n < low || n > high {
			return 0, fmt.Errorf("is not between %d and %d", low, high)
		}
		return n, nil
	}
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "":
		return false, errEmpty
	}
	return false, errors.New("is neither true nor false")
}

// unlimited stands for Kafka's -1.
const unlimited = "unlimited"

var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

var durationPart = regexp.MustCompile(`^([0-9]{1,12})(ms|s|m|h|d|w)`)

// parseRetention reads 7d, 12h, 1d12h or unlimited, as milliseconds; -1 is unlimited.
func parseRetention(text string) (int64, error) {
	if text == "" {
		return 0, errEmpty
	}
	if text == unlimited {
		return -1, nil
	}
	if strings.HasPrefix(text, "-") {
		return 0, errors.New("is negative; without an end it is unlimited")
	}
	var sum int64
	for rest := text; rest != ""; {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			return 0, errors.New("is not a duration with units")
		}
		n, _ := strconv.ParseInt(m[1], 10, 64)
		unit := durationUnits[m[2]].Milliseconds()
		const century = 100 * 366 * 24 * 3600 * 1000
		if n > century/unit {
			return 0, errors.New("is more than 100 years; without an end it is unlimited")
		}
		sum += n * unit
		rest = rest[len(m[0]):]
	}
	if sum < 1000 {
		return 0, errors.New("is less than a second")
	}
	return sum, nil
}

// formatDuration writes milliseconds in the largest unit that holds them exactly.
func formatDuration(ms int64) string {
	if ms < 0 {
		return unlimited
	}
	for _, u := range []string{"d", "h", "m", "s"} {
		if n := durationUnits[u].Milliseconds(); ms%n == 0 {
			return strconv.FormatInt(ms/n, 10) + u
		}
	}
	return strconv.FormatInt(ms, 10) + "ms"
}

// parseName reads the name of an object that has a DNS subdomain for a name.
func parseName(text string) (string, error) {
	if text == "" {
		return "", errEmpty
	}
	if len(validation.IsDNS1123Subdomain(text)) > 0 {
		return "", errors.New("is not a name that Kubernetes takes")
	}
	return text, nil
}

func clamp[T int | int64](v, low, high T) T { return min(max(v, low), high) }
