"""What happens on a host: one engine, used by the commands, the agent and push over SSH alike.

The modules stand in the order of the flow:

    received → authorised → planned → fetched → testing → verifying → confirmed → committed
               resolve      plan      fetch     activate  verify                  commit

`engine` runs it, `journal` remembers every step before it is taken, `rollback` goes back by the same steps.
Nothing in here evaluates or builds, and nothing prints.
"""
