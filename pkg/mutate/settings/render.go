package settings

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// roles are the renderers: what a role's sets have whatever their settings. It stands before the settings' own shares.
var roles = map[setting.Role]func(*setting.Draft){
	setting.Kafka:     renderKafka,
	setting.ZooKeeper: renderZooKeeper,
}

// Render makes the object that resolved settings ask for. Each, unless nil, is called after every setting's share with
// the object as it would be if that were the last one.
func Render(r *setting.Resolver, each func(setting.Info, *appsv1.StatefulSet)) *appsv1.StatefulSet {
	build := func(upTo string) *appsv1.StatefulSet {
		d := &setting.Draft{
			Resolver: r,
			Set:      &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{}},
			Main:     &corev1.Container{}, Init: &corev1.Container{},
			Config: &setting.Properties{},
		}
		roles[r.Role](d)
		d.Render(upTo)
		return d.Finish()
	}
	if each != nil {
		for _, s := range All {
			if info := s.Info(); info.For(r.Role) {
				each(info, build(info.Key))
			}
		}
	}
	return build("")
}

func tcp(port int32) corev1.ProbeHandler {
	return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}}
}
