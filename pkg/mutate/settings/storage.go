package settings

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Storage sets the size of the data volume.
var Storage = setting.Setting[resource.Quantity]{
	Key:      "storage",
	Doc:      "Size of each node's data volume (the claim `data`). Kafka's segment size and the time allowed for recovery follow.",
	Allowed:  "a size from 256Mi to 1Pi",
	Example:  "100Gi",
	Rule:     "10Gi.",
	Replaces: "kafka_pv_volume_size",
	Parse:    parseBytes(256*mi, pi),
	Format:   formatQuantity,
	Default:  func(*setting.Resolver) resource.Quantity { return *bytesOf(10 * gi) },
	Render: func(d *setting.Draft, v resource.Quantity) {
		claim := corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: setting.DataVolume},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: v}},
			},
		}
		if class := StorageClass.Get(d.Resolver); class != "" {
			claim.Spec.StorageClassName = &class
		}
		d.Set.Spec.VolumeClaimTemplates = append(d.Set.Spec.VolumeClaimTemplates, claim)
		if d.Role != setting.Kafka {
			return
		}
		// A segment is deleted as a whole: on a small volume Kafka's 1Gi would keep far more than retention asks for.
		d.Config.Put("log.segment.bytes", strconv.FormatInt(clamp(v.Value()/100, 64*mi, gi)/mi*mi, 10))
		// Recovery after an unclean stop reads the whole log: an hour at least, and 20 s more for every GiB (50 MiB/s).
		const period = 10 // the API's default
		seconds := max(3600, 20*(v.Value()/gi))
		if p := d.Main.StartupProbe; p != nil {
			p.FailureThreshold = int32(seconds / period)
		}
	},
}

// StorageClass sets the data volume's class.
var StorageClass = setting.Setting[string]{
	Key:      "storage-class",
	Doc:      "StorageClass of the data volume.",
	Allowed:  "the name of a StorageClass",
	Example:  "fast-ssd",
	Rule:     "The cluster's default class.",
	Replaces: "storage_class_name",
	Fixed:    "a volume cannot change its class; create a new StatefulSet with the class and let Kafka replicate to it",
	Parse:    parseName,
}
