package settings

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Release is a version of Kafka or ZooKeeper.
type Release struct{ Major, Minor, Patch int }

func (v Release) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Line is the release's line, as 4.3.
func (v Release) Line() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// AtLeast tells whether v belongs to the line major.minor or a later one.
func (v Release) AtLeast(major, minor int) bool {
	return cmp.Or(cmp.Compare(v.Major, major), cmp.Compare(v.Minor, minor)) >= 0
}

// supported are the newest releases of the lines that can be rendered, newest line last. Any patch of a line is taken.
var supported = map[setting.Role][]Release{
	setting.Kafka:     {{3, 9, 2}, {4, 0, 2}, {4, 1, 2}, {4, 2, 2}, {4, 3, 1}},
	setting.ZooKeeper: {{3, 8, 6}, {3, 9, 5}},
}

// lastWithZooKeeper is the last line of Kafka that can run with ZooKeeper (KIP-833).
var lastWithZooKeeper = supported[setting.Kafka][0]

// Supported lists the newest release of every line that can be rendered, the newest line last. Any patch of a line is taken.
func Supported(role setting.Role) []Release { return slices.Clone(supported[role]) }

func supports(role setting.Role, v Release) bool {
	for _, s := range supported[role] {
		if s.Major == v.Major && s.Minor == v.Minor {
			return true
		}
	}
	return false
}

func newest(role setting.Role) Release { l := supported[role]; return l[len(l)-1] }

func lines(role setting.Role) string {
	out := make([]string, len(supported[role]))
	for i, s := range supported[role] {
		out[i] = s.Line()
	}
	return strings.Join(out, ", ")
}

var versionForm = regexp.MustCompile(`^([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})$`)

func parseVersion(text string) (Release, error) {
	if text == "" {
		return Release{}, errEmpty
	}
	m := versionForm.FindStringSubmatch(text)
	if m == nil {
		return Release{}, errors.New("is not a version of three numbers")
	}
	var v Release
	v.Major, _ = strconv.Atoi(m[1])
	v.Minor, _ = strconv.Atoi(m[2])
	v.Patch, _ = strconv.Atoi(m[3])
	return v, nil
}

// Version picks the image's tag and the configuration that goes with it.
var Version = setting.Setting[Release]{
	Key:     "version",
	Doc:     "Version of Kafka or ZooKeeper. It picks the image's tag and the configuration that goes with it.",
	Allowed: "Kafka of the lines " + lines(setting.Kafka) + "; ZooKeeper of the lines " + lines(setting.ZooKeeper),
	Example: newest(setting.Kafka).String(),
	Rule: "The image's tag where it is a version; else " + newest(setting.Kafka).String() + ", with ZooKeeper " +
		lastWithZooKeeper.String() + ", and for a ZooKeeper " + newest(setting.ZooKeeper).String() + ".",
	Parse:   parseVersion,
	Format:  Release.String,
	Default: defaultVersion,
	Adjust: func(r *setting.Resolver, v Release) (Release, string) {
		// A Namespace may hold both roles, and one number cannot be right for both.
		zk := r.Role == setting.Kafka && setting.ByKey[ZooKeeperRef](r, "zookeeper").Mode != NoZooKeeper
		if supports(r.Role, v) && (!zk || !v.AtLeast(lastWithZooKeeper.Major+1, 0)) {
			return v, ""
		}
		w := defaultVersion(r)
		return w, v.String() + " is no " + string(r.Role) + " version for this set; " + w.String() + " is used"
	},
	Check: func(r *setting.Resolver, v Release) {
		if !supports(r.Role, v) {
			r.Report(setting.Problem{
				Code: setting.BadValue, Field: r.FieldOf("version"), Got: setting.Quote(v.String()),
				Reason:  "is not a version of " + string(r.Role) + " that can be rendered",
				Allowed: "the lines " + lines(r.Role), Example: newest(r.Role).String(),
			})
		}
	},
}

func defaultVersion(r *setting.Resolver) Release {
	if setting.Given[string](r, "image") {
		if v, err := parseVersion(tagOf(setting.ByKey[string](r, "image"))); err == nil && supports(r.Role, v) {
			return v
		}
	}
	// An image that is exchanged for one whose tag says nothing is still of the version that was there.
	if v, err := parseVersion(r.Recorded("version")); err == nil && setting.Given[string](r, "image") {
		return v
	}
	if r.Role == setting.Kafka && setting.ByKey[ZooKeeperRef](r, "zookeeper").Mode != NoZooKeeper {
		return lastWithZooKeeper
	}
	return newest(r.Role)
}
