package object

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Annotations of the state: that there was a Secret with passwords, which the volumes may be formatted with; and that the
// ensemble NAME-zookeeper belongs to the cluster.
const (
	secretAnnotation   = setting.Prefix + "sasl-secret"
	ensembleAnnotation = setting.Prefix + "ensemble"
)

// DataClaim is the name of the claim template for a node's data.
const DataClaim = setting.DataVolume

// StateName is the ConfigMap that records which ordinals were ever Ready.
func (c *Cluster) StateName() string { return c.Name + "-state" }

// State is what outlives a StatefulSet beside its volumes: which ordinals were ever Ready, each with the UID of the claim that
// its data is on. The pods mount the ConfigMap, and a controller that is listed does not format an empty volume.
type State struct {
	// Ready maps ordinals to the UIDs of their data claims, "" where the data is on no claim.
	Ready map[int]string
	// SecretSeen tells that there was a SASL Secret that could be used, and Ensemble that the cluster had one of its own.
	SecretSeen, Ensemble bool
}

// ReadState reads a state's ConfigMap. Keys that are no ordinals are somebody else's.
func ReadState(m *corev1.ConfigMap) State {
	s := State{Ready: map[int]string{}, SecretSeen: m.Annotations[secretAnnotation] != "", Ensemble: m.Annotations[ensembleAnnotation] != ""}
	for k, v := range m.Data {
		if n, err := strconv.Atoi(k); err == nil && n >= 0 {
			s.Ready[n] = strings.TrimSpace(v)
		}
	}
	return s
}

// WriteState writes a state into its ConfigMap, and tells whether that changed anything.
func (c *Cluster) WriteState(m *corev1.ConfigMap, s State) bool {
	data := map[string]string{}
	for k, v := range m.Data {
		if n, err := strconv.Atoi(k); err != nil || n < 0 {
			data[k] = v
		}
	}
	for n, uid := range s.Ready {
		data[strconv.Itoa(n)] = uid
	}
	notes := map[string]string{}
	maps.Copy(notes, m.Annotations)
	for key, name := range map[string]string{secretAnnotation: c.SASLSecretName(), ensembleAnnotation: c.EnsembleName()} {
		if on := key == secretAnnotation && s.SecretSeen || key == ensembleAnnotation && s.Ensemble; on {
			notes[key] = name
		} else {
			delete(notes, key)
		}
	}
	if maps.Equal(data, m.Data) && maps.Equal(notes, m.Annotations) {
		return false
	}
	m.Data, m.Annotations = data, notes
	return true
}

// NewState is the ConfigMap of a cluster of which nothing is recorded yet.
func (c *Cluster) NewState() *corev1.ConfigMap {
	return &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: c.meta(c.StateName())}
}

// Gone tells that none of the recorded volumes is there any more, so that what was recorded is about another life of the
// cluster. uids are those of all its data claims that there are.
func (s State) Gone(uids []string) bool {
	if len(s.Ready) == 0 {
		return false
	}
	for _, uid := range s.Ready {
		// Of data that is on no claim nothing is known.
		if uid == "" || slices.Contains(uids, uid) {
			return false
		}
	}
	return true
}
