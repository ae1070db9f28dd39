package settings

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// ZooKeeperMode tells how a Kafka set uses ZooKeeper.
type ZooKeeperMode int

// The modes.
const (
	NoZooKeeper       ZooKeeperMode = iota // KRaft
	OwnZooKeeper                           // an ensemble of its own, NAME-zookeeper
	NamedZooKeeper                         // another annotated StatefulSet
	ExternalZooKeeper                      // addresses
)

// ZooKeeperRef is the value of the setting zookeeper.
type ZooKeeperRef struct {
	Mode ZooKeeperMode
	// Text is the name or the connect string; empty for the first two modes.
	Text string
}

func (z ZooKeeperRef) String() string {
	switch z.Mode {
	case NoZooKeeper:
		return "false"
	case OwnZooKeeper:
		return "true"
	}
	return z.Text
}

// ZooKeeper chooses between KRaft and ZooKeeper.
var ZooKeeper = setting.Setting[ZooKeeperRef]{
	Key:   "zookeeper",
	Roles: []setting.Role{setting.Kafka},
	Doc: "true: an ensemble NAME-zookeeper beside the set. A name: that annotated StatefulSet, under the path /NAME. host:port,…/path: " +
		"an external ensemble. Kafka up to 3.9 only.",
	Allowed:  "true, false, the name of a StatefulSet, or host:port,…/path",
	Example:  "zk-0.example.com:2181,zk-1.example.com:2181/kafka",
	Rule:     "false: KRaft.",
	Replaces: "zookeeper_enabled",
	Fixed:    "a cluster cannot move between ZooKeeper and KRaft by an edit; create a new StatefulSet and replicate to it",
	Moves: func(from, to ZooKeeperRef) bool {
		return from.Mode != to.Mode || (from.Mode == NamedZooKeeper && from.Text != to.Text)
	},
	Parse:  parseZooKeeper,
	Format: ZooKeeperRef.String,
	Adjust: func(r *setting.Resolver, z ZooKeeperRef) (ZooKeeperRef, string) {
		if v := Version.Get(r); z.Mode != NoZooKeeper && r.OnObject("version") && v.AtLeast(lastWithZooKeeper.Major+1, 0) {
			return ZooKeeperRef{}, "Kafka " + v.String() + " has no ZooKeeper; KRaft is used"
		}
		return z, ""
	},
	Check: func(r *setting.Resolver, z ZooKeeperRef) {
		if v := Version.Get(r); z.Mode != NoZooKeeper && v.AtLeast(lastWithZooKeeper.Major+1, 0) {
			r.Conflict("zookeeper", "version", "metamorph.dev/version: "+lastWithZooKeeper.String(), "needs Kafka %s; 4.0 and later have no ZooKeeper", lastWithZooKeeper.Line())
		}
	},
	Render: renderZooKeeperClient,
}

func parseZooKeeper(text string) (ZooKeeperRef, error) {
	switch {
	case text == "":
		return ZooKeeperRef{}, errEmpty
	case text == "false":
		return ZooKeeperRef{}, nil
	case text == "true":
		return ZooKeeperRef{Mode: OwnZooKeeper}, nil
	case !strings.ContainsAny(text, ":,/"):
		if len(validation.IsDNS1123Subdomain(text)) > 0 || len(text) > 52 {
			return ZooKeeperRef{}, errors.New("is neither true, false nor a StatefulSet's name")
		}
		return ZooKeeperRef{NamedZooKeeper, text}, nil
	}
	hosts, path, chroot := strings.Cut(text, "/")
	if chroot {
		for part := range strings.SplitSeq(path, "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '$' }) {
				return ZooKeeperRef{}, fmt.Errorf("has a path that ZooKeeper does not take: %s", setting.Quote("/"+path))
			}
		}
	}
	for hostport := range strings.SplitSeq(hosts, ",") {
		host, port, err := net.SplitHostPort(hostport)
		if err != nil {
			return ZooKeeperRef{}, fmt.Errorf("%s is not host:port", setting.Quote(hostport))
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return ZooKeeperRef{}, fmt.Errorf("%s has no port from 1 to 65535", setting.Quote(hostport))
		}
		if net.ParseIP(host) == nil && len(validation.IsDNS1123Subdomain(strings.ToLower(host))) > 0 {
			return ZooKeeperRef{}, fmt.Errorf("%s is neither a host name nor an address", setting.Quote(host))
		}
	}
	return ZooKeeperRef{ExternalZooKeeper, text}, nil
}

// connect is the value of zookeeper.connect.
func (z ZooKeeperRef) connect(name string) string {
	switch z.Mode {
	case OwnZooKeeper:
		// The ensemble's client Service, so that brokers need not know its size.
		return Ensemble(name) + ":2181"
	case NamedZooKeeper:
		return z.Text + ":2181/" + name
	}
	return z.Text
}

// Ensemble is the name of the ensemble that zookeeper: "true" creates.
func Ensemble(name string) string { return name + "-zookeeper" }

// ZooKeeperReplicas is the size of the ensemble that zookeeper: "true" creates.
var ZooKeeperReplicas = setting.Setting[int]{
	Key: "zookeeper-replicas", Outside: true,
	Roles:    []setting.Role{setting.Kafka},
	Doc:      "Servers of the ensemble that zookeeper: \"true\" creates.",
	Allowed:  "a whole number from 1 to 9",
	Example:  "3",
	Rule:     "3.",
	Replaces: "zookeper_node_replica_count",
	Parse:    parseInt(1, 9),
	Format:   strconv.Itoa,
	Default:  func(*setting.Resolver) int { return 3 },
	Check:    func(r *setting.Resolver, _ int) { onlyWithOwn(r, "zookeeper-replicas") },
}

// ZooKeeperStorage is the volume size of the ensemble that zookeeper: "true" creates.
var ZooKeeperStorage = setting.Setting[resource.Quantity]{
	Key: "zookeeper-storage", Outside: true,
	Roles:    []setting.Role{setting.Kafka},
	Doc:      "Size of the data volumes of the ensemble that zookeeper: \"true\" creates.",
	Allowed:  Storage.Allowed,
	Example:  "10Gi",
	Rule:     "10Gi.",
	Replaces: "zookeper_pv_volume_size",
	Parse:    Storage.Parse,
	Format:   formatQuantity,
	Default:  func(*setting.Resolver) resource.Quantity { return *bytesOf(10 * gi) },
	Check:    func(r *setting.Resolver, _ resource.Quantity) { onlyWithOwn(r, "zookeeper-storage") },
}

func onlyWithOwn(r *setting.Resolver, key string) {
	if ZooKeeper.Get(r).Mode != OwnZooKeeper && r.Values()[key].Origin.Layer == setting.OnObject {
		r.Conflict(key, "zookeeper", `metamorph.dev/zookeeper: "true"`, "is for the ensemble that zookeeper: \"true\" creates, and this set has none")
	}
}
