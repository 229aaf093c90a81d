"""The worked example, but refusing every plan that holds anything it cannot do, asked for or not."""
import sys

sys.path.insert(0, sys.argv[1])
import adapter


class Strict(adapter.State):
    def __init__(self, apply):
        super().__init__(apply)
        lacks = list(self.lacks.items())
        for proxy in apply["plan"]["proxies"]:
            for listener in proxy["listeners"]:
                lacks += [(chain["name"], "mesh-mtls") for chain in listener["chains"] if chain["tls"]]
        if lacks:
            raise OSError("this cannot be done: %r" % lacks)


adapter.State = Strict
adapter.main()
