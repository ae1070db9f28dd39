package settings

import (
	"errors"
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Retention sets how long a topic keeps its records.
var Retention = setting.Setting[int64]{
	Key:        "retention",
	Roles:      []setting.Role{setting.Kafka},
	Doc:        "How long a topic keeps its records, unless it has a retention of its own.",
	Allowed:    "a duration in ms, s, m, h, d or w from 1s to 100 years, or unlimited",
	Example:    "7d",
	Rule:       "7d, Kafka's own default.",
	Properties: []string{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
	FromProperty: func(property, value string) (string, error) {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return "", errors.New("is not a whole number")
		}
		if n < 0 {
			return unlimited, nil
		}
		return value + map[string]string{"log.retention.ms": "ms", "log.retention.minutes": "m", "log.retention.hours": "h"}[property], nil
	},
	Parse:   parseRetention,
	Format:  formatDuration,
	Default: func(*setting.Resolver) int64 { return durationUnits["d"].Milliseconds() * 7 },
	Render: func(d *setting.Draft, ms int64) {
		d.Config.Put("log.retention.ms", strconv.FormatInt(ms, 10))
	},
}

// RetentionBytes sets how much of a partition is kept.
var RetentionBytes = setting.Setting[resource.Quantity]{
	Key:        "retention-bytes",
	Roles:      []setting.Role{setting.Kafka},
	Doc:        "How many bytes of each partition are kept, unless the topic has a limit of its own.",
	Allowed:    "a size from 1Mi to 1Pi, or unlimited",
	Example:    "50Gi",
	Rule:       "unlimited, Kafka's own default.",
	Properties: []string{"log.retention.bytes"},
	FromProperty: func(_, value string) (string, error) {
		if value == "-1" {
			return unlimited, nil
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return "", errors.New("is not a whole number")
		}
		return bytesOf(n).String(), nil
	},
	Parse: func(text string) (resource.Quantity, error) {
		if text == unlimited {
			return *bytesOf(0), nil
		}
		return parseBytes(mi, pi)(text)
	},
	Format: func(q resource.Quantity) string {
		if q.IsZero() {
			return unlimited
		}
		return q.String()
	},
	Render: func(d *setting.Draft, q resource.Quantity) {
		n := q.Value()
		if n == 0 {
			n = -1
		}
		d.Config.Put("log.retention.bytes", strconv.FormatInt(n, 10))
	},
}
