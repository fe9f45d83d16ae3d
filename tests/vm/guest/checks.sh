. /guest/network.sh
. /guest/traffic.sh
uname -a; modprobe -a br_netfilter ip_vs ; lsmod | head -3; free; cat /proc/uptime
make_network
for p in pod-a pod-b pod-c pod-d; do serve $p 8080; done
sleep 1
cat /proc/uptime
call pod-a tcp 10.244.1.6:8080
call pod-a udp 10.244.1.6:8080
call pod-a udp 10.244.1.6:8080
call pod-a udp 10.244.1.6:8081
call pod-a tcp 10.244.1.6:8081
call pod-a tcp 10.244.1.7:8081
call client tcp 10.244.1.7:8081
call client udp 10.244.1.7:8081
now
for i in 1 2 3 4 5 6 7 8 9 10; do call pod-b tcp 10.244.1.5:8080; done
now
for i in 1 2 3 4 5 6 7 8 9 10; do call pod-b udp 10.244.1.5:8080; done
now
mkdir -p /run/c
on node-1 sh -c 'time minictl kubeconfig --pki-dir /run/c/pki --server https://192.168.56.70:6443 > /run/admin'
now
on node-1 minictl server --data-dir /run/c/data --pki-dir /run/c/pki --advertise 192.168.56.70:6443 > /run/server.log 2>&1 &
while ! on node-1 minictl --kubeconfig /run/admin get svc; do sleep 0.5; done
now
on node-1 minictl --kubeconfig /run/admin get svc
now
on node-1 minictl --kubeconfig /run/admin get svc,ep -A
now
free
cat /run/server.log
