"""The worked example, which here refuses every plan with anything that it cannot do, even if no request needs it."""
import sys

sys.path.insert(0, sys.argv[1])
import adapter


class Strict(adapter.AppliedPlan):
    def __init__(self, apply):
        super().__init__(apply)
        lacks = list(self.lacks.items())
        for proxy in apply["plan"]["proxies"]:
            for listener in proxy["listeners"]:
                lacks += [(chain["name"], "mesh-mtls") for chain in listener["chains"] if chain["tls"]]
        if lacks:
            raise OSError("not supported: %r" % lacks)


adapter.AppliedPlan = Strict
adapter.main()
