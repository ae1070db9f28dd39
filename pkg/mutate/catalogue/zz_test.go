package catalogue
import ("testing";"fmt")
func TestZZ(t *testing.T){
 c,_:=Kafka("4.3"); z,_:=ZooKeeper("3.9"); k39,_:=Kafka("3.9")
 for _,n:=range []string{"log.retention.hour","retention.ms","replication.factor","KAFKA_NUM_PARTITIONS","num_partitions","listener.name.CLIENT.sasl.jaas.config","listener.name.client.ssl.keystore.typ","listener.name.client.scram-sha-512.sasl.jaas.confg","zookeeper.connect","max.message.bytes","foo","auto.create.topic.enable","log.retention.day","min.isr","super.user","segment.bytes", "delete.topics.enable","broker.id.generation.enable","config.provider","retention.bytes", "cleanup.policy","log.cleaner.enabled","compression"} { fmt.Printf("%-50s %q\n",n,c.Nearest(n)) }
 for _,n:=range []string{"quorum.auth.learner.loginContext","connectionMaxTokens","ticktime","autopurge.purgeIntervall","maxClientCnxn","zookeeper.snapCount","jute.maxbuffer","4lw.commands.whitlist","authProvider","server1","enforce.auth.scheme"} { fmt.Printf("%-50s %q\n",n,z.Nearest(n)) }
 for _,x:=range [][2]string{{"num.partitions","x"},{"num.partitions","0"},{"num.partitions","99999999999"},{"auto.create.topics.enable","yes"},{"log.cleanup.policy","delete,compactt"},{"compression.type","zip"},{"log.retention.hours","0"},{"unclean.leader.election.enable",""},{"ssl.client.auth","maybe"},{"authorizer.class.name",""},{"metric.reporters","a,b"},{"log.message.timestamp.type","createtime"},{"process.roles","broker,x"},{"log.cleaner.io.buffer.load.factor","0.9x"},{"log.cleaner.min.cleanable.ratio","2"},{"ssl.keystore.key",""}} { fmt.Printf("%v: %v | %v\n",x,c.Check(x[0],x[1]), k39.Check(x[0],x[1])) }
 for _,x:=range [][2]string{{"tickTime","0"},{"forceSync","false"},{"peerType","obs"},{"autopurge.snapRetainCount","2"},{"fips-mode","false"},{"snapshot.compression.method","lz4"},{"server.1","a:2888:3888"}} { fmt.Printf("%v: %v\n",x,z.Check(x[0],x[1])) }
 fmt.Println(KafkaMinors(),ZooKeeperMinors(),c.Version)
}
